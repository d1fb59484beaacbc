#!/usr/bin/env python3
"""Tests of the tests: single mistakes in knockd.c and knock.c, are they found?

    tests/mutants.py [N]        a random sample of N of all mistakes (default 300)

A mutant is the program with one mistake: an operator changed, a constant one off, a
condition negated, a statement removed, another value returned. Each is built into the
unit tests, as fast as the compiler can, with a check of array bounds; those of its
section run first, then the others. If all pass, those of its section run once more, with
the sanitizers, then the fast system tests of its section. The first test that fails
finds it. One that no test finds survives. Not counted are mutants that the compiler
refuses, those whose object code is that of the program, and mutants that pass the unit
tests and that tests/mutants_explained says can not be found.

SEED: of the sample; it is printed. LIMIT: no mutant is begun or waited for after so many
seconds (default 6 a mutant; 0: no limit). FILES: "knockd.c knock.c". JOBS: at the same
time. SYSTEM=0: no system tests. ONLY=17,23: these numbers of the sample. All verdicts
are written to build/mutants.log, a summary of at most 15 lines is printed. The exit
status is 1 if something does not work at all, not if mutants survive.

All runs in namespaces of its own, in a copy of the file system that forgets what is
written: a mutant may kill or remove what it likes. Needs root, and what make test
needs; its tests install nothing.
"""
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = '/tmp/mutants'       # in the copy of the file system
LOG = 'build/mutants.log'

# By a word in the section's heading, the first line that fits counts: parts of the
# names of the unit tests to run first; then fast system tests, each a file of tests and
# a regular expression of their names.
SECTIONS = [
    ('knock.c: SHA', ['sealed:'], [('sealed', '^-k|reference|key that is not')]),
    ('knock.c: Sealed', ['sealed:'], [('sealed', '^-k|stamp|key that is not')]),
    ('knock.c: The way through', ['client:'], [('knock', '^-W|^-w')]),
    ('knock.c: New sequences', ['client:'],
     [('knock', 'generate|usage|option|-h'), ('sealed', 'keygen')]),
    ('knock.c:', ['client:'], [('knock', '.'), ('sealed', '^-k|^a sealed|profile|key that')]),
    ('Messages', ['log', 'monitor:'], [('compat', 'log|syslog|standard error|-v')]),
    ('Helpers', ['addresses', 'config:', 'state:'], []),
    ('Configuration', ['config:', 'keys'], [('config', '.'), ('sealed', '^key files')]),
    ('filter', ['filter:'], [('packets', 'any:|only packets|TCPFlags|VLAN|UDP|rule')]),
    ('parse', ['parse:'], [('packets', 'well|truncated|lying|fragment|extension|VLAN')]),
    ('sniffer: sealed', ['sealed:'],
     [('sealed', '^a sealed knock opens|other lengths|new key')]),
    ('match', ['match:', 'rules:'], [('packets', 'rule|attempt|strangers|share'),
                                     ('compat', 'right ports|parallel|come twice')]),
    ('sandbox', ['sniffer:', 'seccomp'], [('privilege', 'the sniffer')]),
    ('sniffer: its loop', ['sniffer:'], [('reload', 'down and up|address replaced|stream'),
                                         ('compat', '-D')]),
    ('start and end', ['monitor:', 'start:'],
     [('reload', 'SIGHUP'), ('privilege', 'forbidden|ends')]),
    ('monitor: sealed', ['sealed:', 'monitor:'],
     [('sealed', '^a sealed knock opens|never good again|clock|Allow|new key|cooldown')]),
    ('commands', ['commands: from', 'commands: sh', 'commands: out', 'commands: %'],
     [('actions', 'status|environment|once for|prints|deadline')]),
    ('sets', ['sets:'],
     [('sets', 'puts the address into|begins again|Close takes|another kind')]),
    ('types', ['commands: lines', 'commands: from'], []),
    ('openings of', ['state:', 'commands: random'],
     [('actions', 'SIGKILL|state file')]),
    ('openings', ['commands:'], [('actions', 'once for|deadline'), ('closing', '.')]),
    ('files', ['state:', 'one-time:'],
     [('closing', 'file|disk'), ('actions', 'SIGKILL|state file')]),
    ('interfaces', ['monitor: int'], [('reload', 'interface|address|several|any')]),
    ('names', ['log: names'], [('compat', '-l:')]),
    ('doors', ['monitor:', 'one-time:'], [('onetime', '.')]),
    ('events', ['monitor:'], [('compat', '_6|Target|letter|Message'), ('onetime', '.')]),
    ('loop', ['monitor:'], [('actions', 'SIGTERM|SIGINT|SIGUSR1'), ('reload', 'stream')]),
    ('Start', ['start:'], [('compat', '-d|pidfile|option|-i|daemon|NOTIFY|-h')]),
]
ALWAYS = [('walkthrough', 'one knock opens')]
SWAPS = {
    '==': '!=', '!=': '==', '<': '<=', '<=': '<', '>': '>=', '>=': '>',
    '&&': '||', '||': '&&', '+': '-', '-': '+', '*': '/', '/': '*', '%': '*',
    '&': '|', '|': '&', '<<': '>>', '>>': '<<', '+=': '-=', '-=': '+=',
    '|=': '&=', '&=': '|=', '^': '|',
}
OPERATOR = re.compile(r'(?<= )(<<|>>|==|!=|<=|>=|&&|\|\||[-+|&]=|[-+*/%<>&|^])(?=[ \n])')
STEP = re.compile(r'\+\+|--')
NOT = re.compile(r'!(?=[\w(])')
NUMBER = re.compile(r'(?<![\w.])(0x[0-9a-fA-F]+|\d+)(?:[uUlL]*)(?![\w.])')
CONDITION = re.compile(r'\b(?:if|while) \(')
RETURN = re.compile(r'\breturn ([^;]+);')
FUNCTION = re.compile(r'^(?:static |extern )*((?:const )?(?:struct |enum |unsigned )?\w+(?: \w+)?) (\**)(\w+)\(', re.M)
NO_STATEMENT = re.compile(
    r'(return|if|for|while|do|switch|case|default|else|goto|struct|enum|union|'
    r'typedef|static|const|unsigned|int|bool|char|long|double|void)\b|'
    r'\w+ \**\w+ ?(=|;|\[|,|\()|\w+:')


def masked(text):
    """The text with blanks for comments, strings, characters and directives."""
    out = list(text)

    def blank(match):
        for i in range(match.start(), match.end()):
            if out[i] != '\n':
                out[i] = ' '

    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|^#(?:\\\n|[^\n])*'
    for match in re.finditer(pattern, text, re.S | re.M):
        blank(match)
    return ''.join(out)


def closing(code, at):
    """Where the parenthesis at `at` ends."""
    depth = 0
    for i in range(at, len(code)):
        depth += {'(': 1, ')': -1}.get(code[i], 0)
        if depth == 0:
            return i
    raise ValueError('no end of parenthesis')


def mutations(name, text):
    """All mistakes in a file: (kind, start, end, what is put there instead)."""
    code = masked(text)
    functions = [(m.start(), m.group(1), m.group(2)) for m in FUNCTION.finditer(code)]

    def inside(at):
        return any(start <= at for start, _, _ in functions)

    def returns(at):
        return [f for f in functions if f[0] <= at][-1][1:]

    found = []
    for m in OPERATOR.finditer(code):
        found.append(('operator', m.start(1), m.end(1), SWAPS[m.group(1)]))
    for m in STEP.finditer(code):
        found.append(('operator', m.start(), m.end(), '--' if m.group() == '++' else '++'))
    for m in NOT.finditer(code):
        found.append(('condition', m.start(), m.end(), ''))
    for m in NUMBER.finditer(code):
        digits = m.group(1)
        value = int(digits, 8 if re.match(r'0\d', digits) else 0)
        for other in [value + 1] + ([value - 1] if value else []):
            found.append(('constant', m.start(1), m.end(1), str(other)))
    for m in CONDITION.finditer(code):
        start = m.end() - 1
        end = closing(code, start) + 1
        found.append(('condition', start, end, '(!' + text[start:end] + ')'))
    for m in RETURN.finditer(code):
        kind, pointer = returns(m.start())
        value = text[m.start(1):m.end(1)]
        if pointer:
            other = 'NULL' if value != 'NULL' else None
        elif kind == 'bool':
            other = {'true': 'false', 'false': 'true'}.get(value, '!(%s)' % value)
        elif kind.startswith('struct'):
            other = None
        else:
            other = '(%s) + 1' % value
        if other:
            found.append(('return value', m.start(1), m.end(1), other))
    for m in re.finditer(r'^ +([^\s{}][^;{}]*;)', code, re.M):
        before = code[:m.start(1)].rstrip()[-1:]
        if before in ';{})' and not NO_STATEMENT.match(m.group(1)):
            found.append(('statement', m.start(1), m.end(1), ';'))
    return [(name, *f) for f in found if inside(f[1])]


def section(name, text, at):
    heads = [h for h in re.finditer(r'^/\* ---- (.*?) -+ \*/', text, re.M) if h.start() < at]
    return name + ': ' + (heads[-1].group(1) if heads else '')


class OutOfTime(Exception):
    """The limit of all mutants is reached."""


def run(command, seconds, cwd, env=None, stop=None, cpu=None):
    """Its exit status; None if the time is up or a line matches `stop`. The time is that
    on the wall, and `cpu` that of each process."""
    child = subprocess.Popen(command, cwd=cwd, env={**os.environ, **(env or {})},
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True,
                             preexec_fn=cpu and (lambda: resource.setrlimit(
                                 resource.RLIMIT_CPU, (cpu, cpu))))
    signal_at = min(time.time() + seconds, LAST)
    os.set_blocking(child.stdout.fileno(), False)
    kept = b''
    while True:
        try:
            status = child.wait(0.05)
        except subprocess.TimeoutExpired:
            status = None
        part = child.stdout.read() or b''
        kept = (kept + part)[-65536:]
        hit = stop and re.search(stop, kept, re.M)
        if status is not None and not hit:
            return status
        if hit or time.time() > signal_at:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
            if not hit and time.time() >= LAST:
                raise OutOfTime
            return None


class Mutant:
    def __init__(self, number, mutation, texts):
        self.number = number
        self.name, self.kind, self.start, self.end, self.other = mutation
        self.text = texts[self.name]
        self.section = section(self.name, self.text, self.start)
        self.dir = '%s/%d' % (WORK, number)

        self.line = self.text.count('\n', 0, self.start) + 1
        self.whole = self.text.split('\n')[self.line - 1].strip()
        self.old = ' '.join(self.text[self.start:self.end].split())

    def said(self):
        return '%d %s:%d %s: `%s` -> `%s` in: %s' % (
            self.number, self.name, self.line, self.kind, self.old[:60],
            self.other[:60], self.whole)

    def test(self):
        """What comes of it: refused, same, found by ..., survived, explained or out of
        time."""
        if time.time() >= LAST:
            return 'out of time'
        shutil.copytree(WORK + '/0', self.dir, symlinks=True, copy_function=os.link,
                        ignore=shutil.ignore_patterns('*.o', 'knockd', self.name))
        with open(self.dir + '/' + self.name, 'w') as f:
            f.write(self.text[:self.start] + self.other + self.text[self.end:])
        try:
            return self.verdict()
        except OutOfTime:
            return 'out of time'
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def verdict(self):
        first, system = next(((u, t) for word, u, t in SECTIONS if word in self.section),
                             ([], []))
        if run(UNIT_BUILD, 300, self.dir) != 0:
            return 'refused'
        for parts in [first] * bool(first) + [['-' + part for part in first]]:
            if not units(self.dir, parts):
                return 'found by the unit tests'
        if self.explained():
            return 'explained'
        if run(build_objects(self.name), 120, self.dir) != 0:
            return 'refused'
        with open('%s/0/%s.o' % (WORK, self.name[:-2]), 'rb') as old, \
                open('%s/%s.o' % (self.dir, self.name[:-2]), 'rb') as new:
            if old.read() == new.read():
                return 'same'
        if first and (run(SANITIZED_BUILD, 300, self.dir) != 0 or
                      not units(self.dir, first, 10)):
            return 'found by the unit tests'
        if os.environ.get('SYSTEM') != '0':
            other = {'knockd.c': 'knock', 'knock.c': 'knockd'}[self.name]
            os.link('%s/0/%s.o' % (WORK, other), '%s/%s.o' % (self.dir, other))
            if run(LINK, 60, self.dir) != 0:
                return 'refused'
            for test in system + ALWAYS:
                if passes_itself(test) and system_test(test, self.dir) != 0:
                    return 'found by ' + test[0] + '.bats'
        return 'survived'

    def explained(self):
        """Says tests/mutants_explained that no test can find it?"""
        for name, part, change, _ in EXPLAINED:
            if name == self.name and part in self.whole and \
                    change in ('*', self.kind, '%s -> %s' % (self.old, self.other)):
                return True
        return False


def explanations():
    """Lines of: file, part of the line, kind of mistake or `old -> new` or *, reason;
    a TAB between them."""
    with open(ROOT + '/tests/mutants_explained') as f:
        lines = [line.rstrip('\n').split('\t') for line in f if line[0] != '#']
    for line in lines:
        if len(line) != 4:
            sys.exit('mutants_explained: %s' % line)
        with open(ROOT + '/' + line[0]) as f:
            if line[1] not in f.read():
                print('mutants_explained: %s has no line with %s any more' % tuple(line[:2]))
    return lines


def units(where, parts, slower=1):
    """Do these unit tests pass? slower: than those that were measured."""
    return run(['./unit', *parts], UNIT_SECONDS[0] * slower, where, {'QUICK': '1'},
               rb'^not ok', UNIT_SECONDS[1] * slower) == 0


def system_test(test, where):
    """The status of a file of tests, of those whose name fits, with a program."""
    file, names = test
    return run(['bats', '--tap', '-f', '(%s)' % names, 'tests/%s.bats' % file], 240, where,
               {'WAIT': '10', 'BATS_TEST_TIMEOUT': '60'}, rb'^not ok')


def passes_itself(test):
    """Does the program as it is pass it here? If not, it finds no mutant."""
    with ITSELF_LOCK:
        if test not in ITSELF:
            ITSELF[test] = system_test(test, WORK + '/0') == 0
            if not ITSELF[test]:
                print('left out: %s.bats, %s: not passed by the program as it is' % test)
    return ITSELF[test]


FLAGS = ['-std=c11', '-D_GNU_SOURCE', '-w']
UNIT_BUILD = ['gcc', *FLAGS, '-O0', '-fsanitize=bounds', '-fsanitize-undefined-trap-on-error',
              '-I.', '-o', 'unit', 'tests/unit.c']
SANITIZED_BUILD = ['gcc', *FLAGS, '-O0', '-fsanitize=address,undefined',
                   '-fno-sanitize-recover=undefined', '-I.', '-o', 'unit', 'tests/unit.c']
COMPILER = shutil.which('musl-gcc') or 'gcc'
LINK = [COMPILER, '-static', '-o', 'knockd', 'knockd.o', 'knock.o']
UNIT_SECONDS = (300, 300)   # on the wall and of the processor; measured at the start
LAST = float('inf')         # when all must end
EXPLAINED = []              # see explanations()
ITSELF, ITSELF_LOCK = {}, threading.Lock()


def build_objects(*names):
    return [COMPILER, *FLAGS, '-O1', '-g0', '-c', *names]


def sample(count):
    """A directory 0 with the program as it is, which must pass; then the mutants."""
    global UNIT_SECONDS, LAST
    begin = time.time()
    # The unit tests have a SEED, too.
    seed = int(os.environ.pop('SEED', '') or random.SystemRandom().randrange(1000000))
    os.makedirs(WORK)
    names = subprocess.check_output(['git', 'ls-files', '-co', '--exclude-standard'],
                                    cwd=ROOT, text=True).split()
    for name in names:
        if os.path.isfile(ROOT + '/' + name) and 'corpus-fuzz' not in name:
            os.makedirs(os.path.dirname('%s/0/%s' % (WORK, name)), exist_ok=True)
            shutil.copy2(ROOT + '/' + name, '%s/0/%s' % (WORK, name))
    for extra in ('build/gen', 'build/knockd-0.8'):
        if os.path.exists(ROOT + '/' + extra):
            os.makedirs(WORK + '/0/build', exist_ok=True)
            os.symlink(ROOT + '/' + extra, WORK + '/0/' + extra)
    if run(build_objects('knockd.c', 'knock.c'), 120, WORK + '/0') or \
            run(UNIT_BUILD, 300, WORK + '/0'):
        sys.exit('mutants: the program as it is can not be built')
    start, used = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    if not units(WORK + '/0', []):
        sys.exit('mutants: the program as it is does not pass its unit tests')
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - used
    UNIT_SECONDS = (4 * (time.time() - start) + 10, int(2 * used + 5))
    if run(LINK, 60, WORK + '/0'):
        sys.exit('mutants: no static program to be had')
    os.symlink('knockd', WORK + '/0/knock')
    os.unlink(WORK + '/0/unit')
    texts = {n: open('%s/0/%s' % (WORK, n)).read()
             for n in os.environ.get('FILES', 'knockd.c knock.c').split()}
    every = [m for n, text in texts.items() for m in mutations(n, text)]
    print('%d mistakes are possible; a sample of %d, SEED=%d' % (len(every), count, seed))
    seconds = int(os.environ.get('LIMIT') or 6 * count)
    if seconds:
        LAST = begin + seconds
    chosen = random.Random(seed).sample(every, min(count, len(every)))
    return [Mutant(i + 1, m, texts) for i, m in enumerate(chosen)]


def main():
    EXPLAINED.extend(explanations())
    mutants = sample(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
    only = {int(n) for n in os.environ.get('ONLY', '').split(',') if n}
    if only:
        mutants = [m for m in mutants if m.number in only]
    counts, survivors = {}, []
    jobs = int(os.environ.get('JOBS') or os.cpu_count())
    with ThreadPoolExecutor(jobs) as pool, os.fdopen(int(os.environ['MUTANTS_LOG']), 'w') as log:
        for mutant, verdict in zip(mutants, pool.map(Mutant.test, mutants)):
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict == 'survived':
                survivors.append(mutant)
            print('%s: %s' % (verdict, mutant.said()), file=log, flush=True)
    summary(counts, survivors)


def summary(counts, survivors):
    for mutant in survivors[:8]:
        print('survived:', mutant.said()[:160])
    if len(survivors) > 8:
        print('... and %d more: %s' % (len(survivors) - 8, LOG))
    by_units = counts.pop('found by the unit tests', 0)
    others = {v: counts.pop(v, 0) for v in
              ('survived', 'explained', 'same', 'refused', 'out of time')}
    by_system = sum(counts.values())
    print('found by unit tests %d, by system tests %d; survived %d' % (
        by_units, by_system, others['survived']))
    print('not counted: explained %(explained)d, same code %(same)d, refused by the '
          'compiler %(refused)d, out of time %(out of time)d' % others)
    found = by_units + by_system
    tried = found + others['survived']
    print('score: %d of %d mutants found, %.1f %%' % (
        found, tried, 100.0 * found / max(tried, 1)))


# The copy of the file system, a process and a network namespace; then ourselves.
ENTER = r'''set -eu
over=$1
shift
mount -t tmpfs -o mode=755 none "$over"
mkdir "$over/u" "$over/w" "$over/root"
mount -t overlay -o "lowerdir=/,upperdir=$over/u,workdir=$over/w" none "$over/root"
cd "$over/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755 none run
mkdir -p run/lock run/old
pivot_root . run/old
cd /
umount -l /run/old
ip link set lo up
cd "$1"
shift
MUTANTS_INSIDE=1 "$@"'''



def enter():
    """Runs this program once more, in the copy of the file system."""
    over = tempfile.mkdtemp()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.makedirs(ROOT + '/build', exist_ok=True)
    log = os.open(ROOT + '/' + LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.environ['MUTANTS_LOG'] = str(log)
    try:
        with subprocess.Popen(['unshare', '-m', '-p', '-n', '-i', '--propagation', 'private',
                               '--fork', '--kill-child', 'bash', '-c', ENTER, 'mutants',
                               over, ROOT, sys.executable, os.path.abspath(__file__),
                               *sys.argv[1:]], pass_fds=[log]) as child:
            try:
                return child.wait()
            finally:
                child.kill()
    finally:
        os.rmdir(over)


if __name__ == '__main__':
    if os.environ.get('MUTANTS_INSIDE'):
        main()
    elif os.getuid() != 0:
        sys.exit('mutants: needs root, for namespaces of its own')
    else:
        sys.exit(enter())
