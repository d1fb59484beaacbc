/*
 * Unit tests of knockd.c: it is included here, with its system calls watched
 * (harness.h). No network, no root, no other process.
 *
 * The tests are in unit_*.c, one file for a section of knockd.c or two; what
 * they share and the list of all of them are here.
 *
 *	build/unit [PART-OF-A-NAME...]	TAP: `ok N - text`, 1..N first
 *	build/unit -PART-OF-A-NAME...	all others
 *	SOAK=1 build/unit		at full size, with a table at the end
 *	SEED=N				of all random choices
 */
#include "harness.h"
#include "world.h"
#include <ctype.h>
#include <dirent.h>

/* ---- Checks ------------------------------------------------------------- */

static unsigned bad_checks; /* in the test that runs */
static bool soak, quick; /* by these words in the environment, in capitals */
static char notes[32][200]; /* figures, shown as a table at the end */
static unsigned nnotes;
static char directory[PATH_MAX]; /* of our own, for files */
static int directory_fd;

#define CHECK(good, ...)                                           \
    do {                                                           \
        if (!(good) && bad_checks++ < 5)                           \
            complaint(__FILE__, __LINE__, #good, " " __VA_ARGS__); \
    } while (0)

__attribute__((format(printf, 4, 5))) static void complaint(
    const char *file, int line, const char *what, const char *fmt, ...) {
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    for (char *c = text; *c; c++)
        if (*c == '\n') *c = '|';
    printf("# %s:%d: not %s%s%s\n", file, line, what, text[1] ? ":" : "",
           text[1] ? text : "");
}

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...) {
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(notes[nnotes], sizeof(*notes), fmt, ap);
    va_end(ap);
    printf("# %s\n", notes[nnotes]);
    nnotes += nnotes < sizeof(notes) / sizeof(*notes) - 1;
}

/* How often: more when there is time. */
static unsigned times(unsigned n, unsigned at_full_size) {
    return soak ? at_full_size : quick ? n / 20 + 1 : n;
}

static bool has_text(const char *text) { return strstr(kept, text) != NULL; }

static unsigned count_text(const char *text) {
    unsigned n = 0;

    for (const char *at = kept; (at = strstr(at, text)); at++) n++;
    return n;
}

static void put_file(const char *name, const char *text, size_t n) {
    int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (fd < 0 || write(fd, text, n) != (ssize_t)n) abort();
    close(fd);
}

static void put_text(const char *name, const char *text) {
    put_file(name, text, strlen(text));
}

/* The content of a file; "" if there is none. */
static const char *get_file(const char *name, size_t *size) {
    static char text[1 << 20];
    int fd = openat(directory_fd, name, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0) close(fd);
    text[n < 0 ? 0 : n] = '\0';
    if (size) *size = n < 0 ? 0 : (size_t)n;
    return text;
}

/* ---- The tests, in the order of knockd.c's sections --------------------- */

#include "unit_config.c"
#include "unit_parse.c"
#include "unit_filter.c"
#include "unit_match.c"
#include "unit_rules.c"
#include "unit_commands.c"
#include "unit_state.c"
#include "unit_sets.c"
#include "unit_onetime.c"
#include "unit_events.c"
#include "unit_reload.c"
#include "unit_sniffer.c"
#include "unit_start.c"
#include "unit_sealed.c"
#include "unit_client.c"
#include "unit_keys.c"
#include "unit_year.c"

/* ---- All of them -------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {
    { "config: sequences", test_sequences },
    { "config: TCP flags", test_flags_of_doors },
    { "config: sets", test_set_directives },
    { "config: networks", test_nets },
    { "config: networks at random", test_nets_at_random },
    { "config: defaults", test_defaults },
    { "config: every directive and alias", test_directives },
    { "config: every error with its line, all at once", test_errors },
    { "config: line ends, BOM, comments, lengths, binary", test_text },
    { "config: files that are not there", test_files },
    { "config: warnings of -t", test_warnings },
    { "config: included files", test_include },
    { "config: which interfaces", test_listen },
    { "config: doors that close others", test_closing_doors },
    { "config: random ones, and -t's output again",
      test_random_configurations },
    { "parse: every length captured and claimed", test_lengths },
    { "parse: every byte and every length lies", test_lies },
    { "parse: mutated packets", test_mutations },
    { "parse: forged sources", test_forged_sources },
    { "parse: extension headers", test_extension_headers },
    { "parse: marks of retransmissions", test_marks },
    { "addresses", test_addresses },
    { "filter: loses nothing that counts, lets no bulk through",
      test_filter },
    { "filter: what is not for us", test_filter_rejects },
    { "filter: length and jumps at the extremes", test_filter_extremes },
    { "filter: ports beside bulk", test_filter_around },
    { "filter: no room for two", test_filter_no_room },
    { "filter: narrow again", test_filter_narrow_again },
    { "filter: cost of many ports", test_filter_cost },
    { "seccomp: the few calls and no other", test_seccomp },
    { "match: as the oracle", test_oracle },
    { "match: as the oracle, through the filter", test_oracle_with_filter },
    { "match: the table when full", test_table },
    { "match: half the table is for stage 1", test_table_advanced },
    { "match: a flood, then nothing", test_table_flood },
    { "match: thousands of doors begin alike", test_table_many_doors },
    { "match: hash of addresses", test_hash },
    { "match: timeouts", test_timeout },
    { "match: retransmissions and twins", test_twins },
    { "rules: scenarios", test_scenarios },
    { "rules: both schedules of retransmissions", test_schedules },
    { "rules: marks are kept for 130 s", test_marks_in_time },
    { "rules: marks in a flood of first knocks", test_marks_flood },
    { "rules: SYN+ACK is an answer", test_answers },
    { "rules: what opens 0.8 opens ours", test_beside_old },
    { "match: attempts of one source", test_attempts_of_source },
    { "match: doors that are not there for a packet",
      test_doors_that_are_not_there },
    { "match: more local addresses than are known", test_too_many_addresses },
    { "match: lines a second", test_lines_a_second },
    { "match: lines of each door a second", test_lines_of_doors },
    { "scans: bits of strays", test_stray_bits },
    { "scans: up, down, in steps", test_ordered_scans },
    { "scans: random order, all ports", test_random_scans },
    { "scans: FIN, NULL, Xmas, ACK, UDP, two at once", test_other_scans },
    { "commands: from the knock to the end", test_opening },
    { "commands: a knock while it is open", test_prolonging },
    { "commands: a knock while it closes", test_reopening },
    { "commands: no stop between a knock and its start", test_renewal },
    { "commands: the last knock counts", test_last_knock },
    { "commands: two doors of one name", test_doors_of_one_name },
    { "commands: order of an address", test_order },
    { "commands: so many times", test_times },
    { "commands: a stop command that fails", test_rounds },
    { "commands: their rounds begin anew", test_rounds_anew },
    { "commands: what is closed is due in the file", test_closing_record },
    { "commands: a door that closes another", test_close },
    { "commands: the stop comes in time", test_wake },
    { "commands: no process, no program", test_spawn_failures },
    { "commands: no room", test_no_room },
    { "commands: no pipe", test_no_pipe },
    { "commands: what is left open", test_left_open },
    { "commands: nobody takes all", test_nobody_takes_all },
    { "commands: a flood with a forged address", test_flood_in_a_name },
    { "commands: open, close, open, close", test_command_twice },
    { "commands: many doors with a forged address",
      test_many_doors_in_a_name },
    { "commands: the oldest one closes", test_oldest_closes },
    { "commands: thousands due at once", test_all_due },
    { "commands: lines about a door", test_lines_of_a_door },
    { "commands: random ones and crashes against a model",
      test_openings_at_random },
    { "commands: shell or not", test_shell },
    { "commands: %IP%", test_expand },
    { "commands: output", test_output },
    { "commands: output in the loop", test_output_in_loop },
    { "sets: words", test_set_words },
    { "sets: from the knock to the end", test_set_opening },
    { "sets: beside commands", test_set_and_commands },
    { "sets: what the kernel refuses", test_set_faults },
    { "sets: answers lost, late, of others", test_set_answers },
    { "sets: descriptions, mutated and cut", test_set_descriptions },
    { "sets: attributes", test_attributes },
    { "sets: IPv6", test_set_v6 },
    { "sets: other words of the kernel's", test_set_noise },
    { "sets: two of one address", test_two_sets },
    { "sets: those of a configuration", test_set_review },
    { "sets: a full door closes its oldest", test_set_room },
    { "sets: in the state file", test_set_state },
    { "state: written and read", test_state_round_trip },
    { "state: grows, and is replaced", test_state_grows },
    { "state: version 2", test_state_version_2 },
    { "state: damaged at each byte, cut at each length", test_state_damage },
    { "state: well summed nonsense", test_state_content },
    { "state: not ours alone, not writable", test_state_places },
    { "state: path", test_state_path },
    { "one-time: marks", test_one_time },
    { "one-time: zero bytes", test_one_time_zeros },
    { "one-time: faults", test_one_time_faults },
    { "one-time: random files", test_one_time_at_random },
    { "one-time: the door", test_one_time_door },
    { "monitor: forged records", test_forged_records },
    { "monitor: believed openings", test_believed_openings },
    { "monitor: the channel", test_channel },
    { "monitor: full records", test_records_in_turns },
    { "monitor: believed lines", test_believed_lines },
    { "monitor: the sniffer's start and end", test_sniffer_of_monitor },
    { "monitor: sniffers that end", test_sniffer_ends },
    { "monitor: lines on a terminal", test_terminal },
    { "monitor: log lines and files", test_lines },
    { "monitor: characters that are logged", test_characters },
    { "monitor: interfaces", test_interfaces },
    { "monitor: signals and reload", test_signals },
    { "monitor: the end", test_end },
    { "monitor: the end of many openings", test_end_of_many },
    { "sniffer: rest", test_rest },
    { "sniffer: ring", test_ring },
    { "sniffer: what is told of packets", test_told_packets },
    { "sniffer: its socket", test_packet_socket },
    { "sniffer: poisoned ring", test_ring_poisoned },
    { "sniffer: sandbox", test_sandbox },
    { "sniffer: from start to end", test_life },
    { "log: syslog", test_syslog },
    { "log: names of addresses", test_names },
    { "start: readiness", test_notify },
    { "start: command line", test_command_line },
    { "start: what is open", test_status },
    { "start: a whole run", test_whole_run },
    { "start: a test of the same options", test_test },
    { "start: which program it is", test_programs },
    { "start: capabilities", test_capabilities },
    { "start: descriptors", test_close_others },
    { "client: ports", test_client_ports },
    { "client: what it hits, and when", test_client_hits },
    { "client: sealed knocks", test_client_sealed },
    { "client: waits for the door", test_client_waits },
    { "client: joins", test_client_joins },
    { "client: options", test_client_options },
    { "client: profiles", test_client_profiles },
    { "client: new sequences and keys", test_client_makes },
    { "sealed: SHA-256, the examples of FIPS 180-4", test_sha256 },
    { "sealed: HMAC, the cases of RFC 4231", test_hmac },
    { "sealed: packets as the reference makes them", test_sealed_made },
    { "sealed: all judged steps of the reference", test_sealed_judged },
    { "sealed: keys", test_keys_parsed },
    { "sealed: names of clients", test_client_names },
    { "sealed: files of keys", test_key_files },
    { "sealed: equal keys", test_equal_keys },
    { "sealed: more keys than clients", test_too_many_keys },
    { "sealed: what a door with keys can't have", test_key_doors },
    { "sealed: the sniffer knows a client's ids", test_ids },
    { "sealed: ids of other times, and too many", test_ids_limited },
    { "sealed: the sniffer's loop", test_sealed_life },
    { "sealed: ids of many clients", test_ids_of_many },
    { "sealed: a part of a packet, no client", test_sealed_part },
    { "sealed: opens, closes, for others", test_sealed_opens },
    { "sealed: without stamps, with others'", test_no_stamps },
    { "sealed: why it is refused", test_sealed_refused },
    { "sealed: the wall clock is set", test_sealed_clock_set },
    { "sealed: small steps of the wall clock", test_sealed_small_steps },
    { "sealed: the stamps outlive us", test_stamps },
    { "sealed: the stamps grow, and are replaced", test_stamps_grow },
    { "sealed: half a line of stamps", test_stamps_half_line },
    { "sealed: no room for the stamps", test_stamps_no_room },
    { "sealed: damaged stamps", test_stamps_damaged },
    { "sealed: stamps that are torn", test_stamps_torn },
    { "sealed: a cooldown outlives SIGHUP", test_sealed_cooldown },
    { "sealed: clients come and go", test_clients_change },
    { "a year of knocks, restarts, clock steps and suspends", test_year },
};

enum { TESTS = sizeof(tests) / sizeof(*tests) };

/* Removes our directory; there is nothing but files in it. */
static void clean(void) {
    DIR *d = opendir(directory);
    struct dirent *entry;

    while (d && (entry = readdir(d)))
        unlinkat(directory_fd, entry->d_name, 0);
    if (d) closedir(d);
    rmdir(directory);
}

/* Is a test among those that the arguments name: one that is named, if any is,
 * and not one that is named behind a '-'? */
static bool is_wanted(const char *name, char *const *parts) {
    bool any = false, named = false;

    for (; *parts; parts++) {
        if (**parts == '-' && strstr(name, *parts + 1)) return false;
        any |= **parts != '-';
        named |= **parts != '-' && strstr(name, *parts);
    }
    return named || !any;
}

int main(int argc, char **argv) {
    const char *tmp = getenv("TMPDIR"), *word = getenv("SEED");
    uint64_t seed = word ? strtoull(word, NULL, 0) : 1;
    unsigned n = 0, at = 0, bad = 0;

    soak = getenv("SOAK") && strcmp(getenv("SOAK"), "0") != 0;
    quick = getenv("QUICK") != NULL;
    if (!tmp) tmp = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    snprintf(directory, sizeof(directory), "%s/knockd-unit.XXXXXX", tmp);
    if (!mkdtemp(directory) || chdir(directory) ||
        (directory_fd = open(".", O_RDONLY | O_DIRECTORY)) < 0) {
        perror(directory);
        return 1;
    }
    cwd = directory_fd;
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < TESTS; i++)
        n += is_wanted(tests[i].name, argv + (argc > 0));
    printf("1..%u\n", n);
    for (unsigned i = 0; i < TESTS; i++) {
        if (!is_wanted(tests[i].name, argv + (argc > 0))) continue;
        random_state = seed * 1000003 + i;
        bad_checks = 0;
        clock_ms = 1000000;
        t_alarm = 0;
        memset(faults, 0, sizeof(faults));
        tests[i].run();
        printf("%sok %u - unit: %s\n", bad_checks ? "not " : "", ++at,
               tests[i].name);
        bad += bad_checks > 0;
    }
    for (unsigned i = 0; soak && i < nnotes; i++) printf("# %s\n", notes[i]);
    clean();
    return bad > 0;
}
