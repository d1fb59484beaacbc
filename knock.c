/*
 * knock - hit ports of a host in order, so that its knockd opens a door.
 * From top to bottom: options, words, profiles, the knock, the way through the
 * open door, new sequences, main. Nothing here needs a privilege.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"

enum {
	FIRST_TRY_MS = 100, /* at the door, each further one twice as long, */
	LAST_TRY_MS = 2000, /* but not longer than this */
	SILENCE_MS = 2000,  /* of stdin, after the peer has ended its side */
	LOWEST_PORT = 1024  /* of a new sequence */
};

static const char usage[] =
"usage: knock [options] HOST PORT[:tcp|udp]...\n"
"       knock [options] PROFILE           (a section of ~/.config/knock.conf)\n"
"  -u, --udp             hit every port with UDP (default: TCP)\n"
"  -d, --delay MS        wait MS milliseconds after each port (default: 0)\n"
"  -4, --ipv4, -6, --ipv6  use IPv4, or IPv6, only\n"
"  -i, --interface NAME  leave by this network interface\n"
"  -w, --wait PORT       then wait until PORT accepts a connection\n"
"  -W, --connect PORT    then connect PORT to stdin and stdout\n"
"  -t, --timeout SEC     let -w and -W try for SEC seconds (default: 10)\n"
"  -v, --verbose         say what is sent\n"
"      --generate N      print a new random sequence of N ports\n"
"  -V, --version         print the version\n"
"  -h, --help            print this help\n"
"examples:\n"
"  knock -d 500 server.example.org 7000 8000:udp 9000\n"
"  knock -w 22 server.example.org 7000 8000 9000 && ssh server.example.org\n"
"  ssh -o ProxyCommand='knock -W %p %h 7000 8000 9000' server.example.org\n";

/* The options; a profile has those before --generate as directives too. */
static const struct option options[] = {
	{"udp", 0, NULL, 'u'}, {"delay", 1, NULL, 'd'},
	{"interface", 1, NULL, 'i'}, {"wait", 1, NULL, 'w'},
	{"timeout", 1, NULL, 't'}, {"verbose", 0, NULL, 'v'},
	{"generate", 1, NULL, 'g'}, {"connect", 1, NULL, 'W'},
	{"ipv4", 0, NULL, '4'}, {"ipv6", 0, NULL, '6'},
	{"version", 0, NULL, 'V'}, {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0}
};
static const char *given[128]; /* by letter: an option's value, or NULL */
static long delay, timeout = 10; /* of -d in ms, of -t in s */
static in_port_t door;		 /* of -W or -w */

/* One port to hit. */
struct knock {
	const char *word; /* as the user wrote it */
	in_port_t port;
	bool udp;
};

static const char *host;
static struct knock *knocks;
static size_t knock_count;
static char where[PATH_MAX + 16];     /* "FILE:LINE: " in a profile, or "" */
static struct addrinfo *peers, *peer; /* the host's addresses, the one in use */
static char peer_name[NI_MAXHOST];

/* The value of a word of digits; anything else is the end. */
static long number(const char *what, const char *word, long min, long max)
{
	long value = strtol(word, NULL, 10);

	if (!*word || word[strspn(word, "0123456789")] || value < min ||
		value > max)
		errx(1, "%s%s '%s' is not a number from %ld to %ld", where,
			what, word, min, max);
	return value;
}

/* A port by its number or its name in /etc/services. */
static in_port_t port_of(const char *word)
{
	const struct servent *service = getservbyname(word, NULL);

	return service ? ntohs((in_port_t)service->s_port) :
			 (in_port_t)number("port", word, 1, 65535);
}

/* Adds PORT[:PROTOCOL] to the knocks; the text is cut in two and kept. */
static void add_knock(char *text)
{
	struct knock new = {.word = strsep(&text, ":")};

	new.udp = text && !strcasecmp(text, "udp");
	if (text && !new.udp && strcasecmp(text, "tcp"))
		errx(1, "%sprotocol '%s' is not tcp or udp", where, text);
	new.port = port_of(new.word);
	knocks = realloc(knocks, (knock_count + 1) * sizeof(new));
	if (!knocks)
		err(1, NULL);
	knocks[knock_count++] = new;
}

/* Reads the options that have a value; called whenever there are new ones. */
static void read_values(void)
{
	const char *port = given['W'] ? given['W'] : given['w'];

	door = port ? port_of(port) : 0;
	if (given['d'])
		delay = number("delay", given['d'], 0, 86400000);
	if (given['t'])
		timeout = number("timeout", given['t'], 1, 86400);
}

/* Obeys a line of a profile: this word and those that strtok() has left. */
static void directive(const char *word, const char *blanks)
{
	const struct option *option = options;
	char *value = strtok(NULL, blanks);

	while (option->val != 'g' && strcasecmp(word, option->name))
		option++;
	if (!strcasecmp(word, "ports") || !strcasecmp(word, "sequence"))
		for (; value; value = strtok(NULL, blanks))
			add_knock(value);
	else if (!strcasecmp(word, "host") && value && !strtok(NULL, blanks))
		host = value;
	else if (option->val == 'g' || strtok(NULL, blanks) ||
		(option->has_arg ? !value : value && strcasecmp(value, "yes")))
		errx(1, "%s'%s %s' is not understood", where, word,
			value ? value : "");
	else if (!given[option->val])
		given[option->val] = value ? value : "";
	read_values();
}

/* Obeys the profile [name] in the file dir/base; false if it is not there. */
static bool read_profile(const char *name, const char *dir, const char *base)
{
	static const char blanks[] = " \t\r=,";
	static char path[PATH_MAX], text[1 << 16];
	char *rest = text, *line, *word;
	bool wanted = false, found = false;
	struct stat status;
	ssize_t size;
	int fd, n;

	if (!dir || *dir != '/')
		return false;
	snprintf(path, sizeof(path), "%s/%s", dir, base);
	fd = open(path, O_RDONLY);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return false;
	size = read(fd, text, sizeof(text) - 1);
	if (size < 0 || fstat(fd, &status))
		err(1, "%s", path);
	close(fd);
	if (status.st_mode & (S_IRGRP | S_IROTH))
		warnx("warning: others can read %s", path);
	text[size] = '\0';
	for (n = 1; (line = strsep(&rest, "\n")); n++) {
		snprintf(where, sizeof(where), "%s:%d: ", path, n);
		line[strcspn(line, "#")] = '\0';
		word = strtok(line, blanks);
		if (word && *word == '[') {
			line = strchr(word, ']');
			wanted = line && line == word + 1 + strlen(name) &&
				!strncmp(word + 1, name, strlen(name));
			found |= wanted;
		} else if (word && wanted) {
			directive(word, blanks);
		}
	}
	where[0] = '\0';
	return found;
}

/* Begins a connection to the peer; *error is 0, EINPROGRESS or what failed. */
static int reach(in_port_t port, int type, int *error)
{
	int fd = socket(peer->ai_family, type | SOCK_NONBLOCK, 0);
	const char *via = given['i'];

	if (fd >= 0 && via && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, via,
				      (socklen_t)strlen(via)))
		err(1, "%s", via);
	/* the port of an IPv6 address stands at the same place */
	((struct sockaddr_in *)(void *)peer->ai_addr)->sin_port = htons(port);
	*error = fd < 0 || connect(fd, peer->ai_addr, peer->ai_addrlen) ?
		errno : 0;
	return fd;
}

/* Settles on the host's first address that there is a route to. */
static void find_peer(void)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family =
		given['4'] ? AF_INET : given['6'] ? AF_INET6 : AF_UNSPEC};
	int error = getaddrinfo(host, NULL, &hints, &peers);

	if (error)
		errx(1, "%s: %s", host, gai_strerror(error));
	for (peer = peers; peer; peer = peer->ai_next) {
		getnameinfo(peer->ai_addr, peer->ai_addrlen, peer_name,
			sizeof(peer_name), NULL, 0, NI_NUMERICHOST);
		close(reach(knocks->port, SOCK_DGRAM, &error));
		if (!error)
			return;
	}
	errx(1, "%s: %s", peer_name, strerror(error));
}

/*
 * Sends one SYN or one datagram, a NUL byte, and waits for the delay. Closing
 * keeps the SYN from being repeated; what comes back does not matter.
 */
static void hit(const struct knock *knock)
{
	bool udp = given['u'] || knock->udp;
	int fd, error;

	if (given['v'])
		dprintf(given['W'] ? 2 : 1, "hitting %s %s:%s\n",
			udp ? "udp" : "tcp", peer_name, knock->word);
	fd = reach(knock->port, udp ? SOCK_DGRAM : SOCK_STREAM, &error);
	if (udp && !error && send(fd, "", 1, 0) < 0)
		error = errno;
	if (error && error != EINPROGRESS && error != ECONNREFUSED)
		errx(1, "%s:%s: %s", peer_name, knock->word, strerror(error));
	close(fd);
	poll(NULL, 0, (int)delay);
}

/*
 * A connection to the door, once it opens. A closed one refuses or is silent:
 * the first tries hardly wait, as most doors open at once; the later ones are
 * longer, for a peer that is far away.
 */
static int enter(void)
{
	int left = (int)timeout * 1000, try = FIRST_TRY_MS;
	int fd, error, why = ETIMEDOUT;
	socklen_t size = sizeof(error);
	struct pollfd ready = {.events = POLLOUT};

	for (; left > 0; left -= try, try *= try < LAST_TRY_MS ? 2 : 1) {
		ready.fd = fd = reach(door, SOCK_STREAM, &error);
		if (error == EINPROGRESS && poll(&ready, 1, try) > 0)
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
		if (!error)
			return fd;
		close(fd);
		if (error != EINPROGRESS)
			poll(NULL, 0, try);
		why = error == EINPROGRESS ? why : error;
	}
	errx(1, "%s:%u did not open: %s", peer_name, door, strerror(why));
}

/* One direction of a join: bytes that were read and are not yet written. */
struct lane {
	int from, to;	/* from is -1 after its end */
	size_t at, end; /* what is left of the bytes, nothing when equal */
	char bytes[PIPE_BUF];
};

/*
 * Writes what the lane holds or, if that is nothing, reads; passes an end on.
 * After poll neither blocks, even on a stdout in blocking mode: a pipe with any
 * room has it for PIPE_BUF bytes. Returns 0, or the error that ended the lane.
 */
static int move(struct lane *lane)
{
	bool full = lane->at < lane->end;
	ssize_t n = full ? write(lane->to, lane->bytes + lane->at,
				   lane->end - lane->at) :
			   read(lane->from, lane->bytes, PIPE_BUF);
	int error = n < 0 ? errno : 0;

	if (error == EAGAIN || error == EINTR)
		return 0;
	lane->at = full && !error ? lane->at + (size_t)n : 0;
	lane->end = full && !error ? lane->end : error ? 0 : (size_t)n;
	if (n > 0)
		return 0;
	lane->from = -1;
	if (shutdown(lane->to, SHUT_WR) && errno == ENOTSOCK)
		close(lane->to);
	return error;
}

/*
 * Copies stdin to the connection and the connection to stdout until both end.
 * A peer that has ended its side may be gone, which only sending would show: so
 * after that a silence of stdin is an end too.
 */
static void join(int fd)
{
	static struct lane lanes[2] = {{.from = STDIN_FILENO},
		{.to = STDOUT_FILENO}}, *up = lanes, *down = lanes + 1, *lane;
	struct pollfd ready[2];
	int lost = 0, error = 0;

	up->to = down->from = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	signal(SIGPIPE, SIG_IGN);
	while (!error && (up->from >= 0 || down->from >= 0)) {
		for (lane = up; lane <= down; lane++)
			ready[lane - up] = lane->at < lane->end ?
				(struct pollfd){lane->to, POLLOUT, 0} :
				(struct pollfd){lane->from, POLLIN, 0};
		if (!poll(ready, 2, down->from < 0 && up->at == up->end ?
					SILENCE_MS : -1))
			break;
		if (ready[0].revents)
			lost |= move(up);
		if (ready[1].revents)
			error = move(down);
	}
	if (error || lost)
		errx(1, "%s %s: %s", error ? "from" : "to", peer_name, strerror(error ? error : lost));
}

/*
 * Prints a new sequence as knockd.conf and knock take it: different ports that
 * do not ascend, since a scan goes upwards and would find them.
 */
static void generate(long count)
{
	in_port_t ports[SEQUENCE_MAX];
	bool falls, bad;
	long i, j;

	do {
		if (getrandom(ports, sizeof(ports), 0) < 0)
			err(1, "no random numbers");
		for (falls = count == 1, bad = false, i = 0; i < count; i++) {
			bad |= ports[i] < LOWEST_PORT;
			falls |= i && ports[i] < ports[i - 1];
			for (j = 0; j < i; j++)
				bad |= ports[i] == ports[j];
		}
	} while (bad || !falls);
	for (i = 0; i < count; i++)
		printf("%s%u", i ? "," : "sequence = ", ports[i]);
	for (i = 0; i < count; i++)
		printf("%s%u", i ? " " : "\nknock HOST ", ports[i]);
	putchar('\n');
}

/*
 * Knocks at HOST PORT... or PROFILE, after all that is given is found good, and
 * goes through the door. Returns false if there are no ports.
 */
static bool run(char **words)
{
	const char *name = host = *words;
	size_t i;

	while (*words && *++words)
		add_knock(*words);
	read_values();
	if (name && !knocks &&
		!read_profile(name, getenv("XDG_CONFIG_HOME"), "knock.conf") &&
		!read_profile(name, getenv("HOME"), ".config/knock.conf") &&
		!read_profile(name, getenv("HOME"), ".knockrc"))
		warnx("no ports, and no profile '%s'", name);
	if (!knocks)
		return false;
	find_peer();
	for (i = 0; i < knock_count; i++)
		hit(&knocks[i]);
	if (given['W'])
		join(enter());
	else if (given['w'])
		enter();
	return true;
}

int main(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "ud:46i:w:W:t:vVh", options,
			NULL)) >= 0)
		given[c] = optarg ? optarg : "";
	if (given['h']) {
		fputs(usage, stdout);
	} else if (given['V']) {
		puts("knock " VERSION);
	} else if (given['g']) {
		generate(number("--generate", given['g'], 1, SEQUENCE_MAX));
	} else if (given['?'] || !run(argv + optind)) {
		fputs(usage, stderr);
		return 1;
	}
	return ferror(stdout) || fflush(stdout);
}
