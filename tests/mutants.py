#!/usr/bin/env python3
"""Tests of the tests: single mistakes in knockd.c and knock.c, are they found?

    tests/mutants.py [N]        a random sample of N of all mistakes (default 300)

A mutant is the program with one mistake: an operator changed, a constant one off, a
condition negated, a statement removed, another value returned. Each is built; the
unit tests run, and if they pass, the fast system tests of the section that it is in.
One that no test finds survives, and is listed. Not counted are mutants that the
compiler refuses, and those whose object code is that of the program.

SEED: of the sample; it is printed. FILES: "knockd.c knock.c". JOBS: at the same time.
ONLY=17,23: these numbers of the sample. LIMIT: seconds after which no further one is
tried. The exit status is 1 if something does not
work at all, not if mutants survive.

All runs in namespaces of its own, in a copy of the file system that forgets what is
written: a mutant may kill or remove what it likes. Needs root, and what make test
needs; its tests install nothing.
"""
import os
import random
import re
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

# The fast system tests, by a word in the section's heading: a file of tests, and a
# regular expression of their names. The first line that fits counts.
SYSTEM = [
    ('knock.c: Profiles', [('knock', 'profile')]),
    ('knock.c: New sequences', [('knock', 'generate')]),
    ('knock.c: The way through', [('knock', '^-W|^-w')]),
    ('knock.c:', [('knock', '.')]),
    ('Messages', [('compat', 'log|syslog|standard error|-v')]),
    ('Configuration', [('config', '.'), ('corpus', '.')]),
    ('filter', [('packets', 'any:|only packets|TCPFlags|VLAN|UDP|rule')]),
    ('parse', [('packets', 'well|truncated|lying|fragment|extension|VLAN')]),
    ('match', [('packets', 'rule|attempt|strangers|share'),
               ('compat', 'right ports|parallel|come twice')]),
    ('sandbox', [('privilege', 'the sniffer')]),
    ('start and end', [('reload', 'SIGHUP'), ('privilege', 'forbidden|ends')]),
    ('The sniffer', [('reload', 'down and up|address replaced|stream'),
                     ('compat', '-D')]),
    ('commands', [('actions', 'status|environment|once for|prints|deadline')]),
    ('files', [('closing', 'file|disk'), ('actions', 'SIGKILL|state file')]),
    ('interfaces', [('reload', 'interface|address|several|any')]),
    ('names', [('compat', '-l:')]),
    ('events', [('compat', '_6|Target|letter|Message'), ('onetime', '.')]),
    ('loop', [('actions', 'SIGTERM|SIGINT|SIGUSR1'), ('reload', 'stream')]),
    ('Start', [('compat', '-d|pidfile|option|-i|daemon|NOTIFY|-h')]),
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


def run(command, seconds, cwd, env=None, stop=None):
    """Its exit status; None if the time is up or a line matches `stop`."""
    child = subprocess.Popen(command, cwd=cwd, env={**os.environ, **(env or {})},
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True)
    signal_at = time.time() + seconds
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
            return None


class Mutant:
    def __init__(self, number, mutation, texts):
        self.number = number
        self.name, self.kind, self.start, self.end, self.other = mutation
        self.text = texts[self.name]
        self.section = section(self.name, self.text, self.start)
        self.dir = '%s/%d' % (WORK, number)

    def said(self):
        line = self.text.count('\n', 0, self.start) + 1
        old = ' '.join(self.text[self.start:self.end].split())
        whole = self.text.split('\n')[line - 1].strip()
        return '%d %s:%d %s: `%s` -> `%s` in: %s' % (
            self.number, self.name, line, self.kind, old[:60], self.other[:60], whole)

    def test(self):
        """What comes of it: refused, same, found by ..., or survived."""
        shutil.copytree(WORK + '/0', self.dir, symlinks=True)
        with open(self.dir + '/' + self.name, 'w') as f:
            f.write(self.text[:self.start] + self.other + self.text[self.end:])
        try:
            return self.verdict()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def verdict(self):
        if run(build_objects(self.name), 120, self.dir) != 0:
            return 'refused'
        with open('%s/0/%s.o' % (WORK, self.name[:-2]), 'rb') as old, \
                open('%s/%s.o' % (self.dir, self.name[:-2]), 'rb') as new:
            if old.read() == new.read():
                return 'same'
        if run(UNIT_BUILD, 300, self.dir) != 0:
            return 'refused'
        if run(['./unit'], UNIT_SECONDS, self.dir, {'QUICK': '1'}, rb'^not ok') != 0:
            return 'found by the unit tests'
        if run(LINK, 60, self.dir) != 0:
            return 'refused'
        tests = next((t for word, t in SYSTEM if word in self.section), []) + ALWAYS
        for test in tests:
            if passes_itself(test) and system_test(test, self.dir) != 0:
                return 'found by ' + test[0] + '.bats'
        return 'survived'


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
                print('left out: %s.bats, %s: the program as it is does not pass' % test)
    return ITSELF[test]


FLAGS = ['-std=c11', '-D_GNU_SOURCE', '-w']
UNIT_BUILD = ['gcc', *FLAGS, '-O0', '-I.', '-o', 'unit', 'tests/unit.c']
COMPILER = shutil.which('musl-gcc') or 'gcc'
LINK = [COMPILER, '-static', '-o', 'knockd', 'knockd.o', 'knock.o']
UNIT_SECONDS = 300          # measured at the start
ITSELF, ITSELF_LOCK = {}, threading.Lock()


def build_objects(*names):
    return [COMPILER, *FLAGS, '-O1', '-g0', '-c', *names]


def sample(count):
    """A directory 0 with the program as it is, which must pass; then the mutants."""
    global UNIT_SECONDS
    os.makedirs(WORK)
    names = subprocess.check_output(['git', 'ls-files', '-co', '--exclude-standard'],
                                    cwd=ROOT, text=True).split()
    for name in names:
        if os.path.isfile(ROOT + '/' + name):
            os.makedirs(os.path.dirname('%s/0/%s' % (WORK, name)), exist_ok=True)
            shutil.copy2(ROOT + '/' + name, '%s/0/%s' % (WORK, name))
    for extra in ('build/gen', 'build/knockd-0.8'):
        if os.path.exists(ROOT + '/' + extra):
            os.makedirs(WORK + '/0/build', exist_ok=True)
            os.symlink(ROOT + '/' + extra, WORK + '/0/' + extra)
    start = time.time()
    if run(build_objects('knockd.c', 'knock.c'), 120, WORK + '/0') or \
            run(UNIT_BUILD, 300, WORK + '/0') or \
            run(['./unit'], 300, WORK + '/0', {'QUICK': '1'}):
        sys.exit('mutants: the program as it is does not pass its unit tests')
    if run(LINK, 60, WORK + '/0'):
        sys.exit('mutants: no static program to be had')
    os.symlink('knockd', WORK + '/0/knock')
    UNIT_SECONDS = 5 * (time.time() - start) + 30
    os.unlink(WORK + '/0/unit')
    texts = {n: open('%s/0/%s' % (WORK, n)).read()
             for n in os.environ.get('FILES', 'knockd.c knock.c').split()}
    every = [m for n, text in texts.items() for m in mutations(n, text)]
    seed = int(os.environ.get('SEED') or random.SystemRandom().randrange(1000000))
    print('%d mistakes are possible; a sample of %d, SEED=%d' % (len(every), count, seed))
    chosen = random.Random(seed).sample(every, min(count, len(every)))
    return [Mutant(i + 1, m, texts) for i, m in enumerate(chosen)]


def main():
    mutants = sample(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
    only = {int(n) for n in os.environ.get('ONLY', '').split(',') if n}
    if only:
        mutants = [m for m in mutants if m.number in only]
    counts, survivors = {}, []
    jobs = int(os.environ.get('JOBS') or os.cpu_count())
    end = time.time() + float(os.environ.get('LIMIT') or 'inf')

    def verdict_on(mutant):
        return mutant.test() if time.time() < end else 'not tried'

    with ThreadPoolExecutor(jobs) as pool:
        for mutant, verdict in zip(mutants, pool.map(verdict_on, mutants)):
            counts[verdict] = counts.get(verdict, 0) + 1
            if verdict == 'survived':
                survivors.append(mutant)
                print('survived:', mutant.said())
            elif only or os.environ.get('VERBOSE'):
                print(verdict + ':', mutant.said())
            sys.stdout.flush()
    for verdict in sorted(counts):
        print('%4d %s' % (counts[verdict], verdict))
    tried = sum(n for v, n in counts.items() if v not in ('refused', 'same', 'not tried'))
    print('score: %d of %d mutants found, %.1f %%' % (
        tried - len(survivors), tried, 100.0 * (tried - len(survivors)) / max(tried, 1)))


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
    try:
        with subprocess.Popen(['unshare', '-m', '-p', '-n', '-i', '--propagation', 'private',
                               '--fork', '--kill-child', 'bash', '-c', ENTER, 'mutants',
                               over, ROOT, sys.executable, os.path.abspath(__file__),
                               *sys.argv[1:]]) as child:
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
