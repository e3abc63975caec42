# Real programs, one after the other: what each took in nanoseconds, and a checksum of what it printed. Runs as the first process of a
# guest (with the word "guest") or in a chroot of the host, on the same root file system. Needs nothing but the root's own programs.
# ONLY names those that are wanted, CPUS how many jobs make may have.
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp LC_ALL=C
unset $(env | sed -n 's/^\(PYTHON[A-Z]*\|PERL[A-Z0-9]*\|RUBY[A-Z]*\|NODE[A-Z_]*\)=.*/\1/p')
if [ "$1" = guest ]; then
  mount -t proc proc /proc
  mount -t devtmpfs dev /dev
  exec >/dev/console 2>&1
fi
mount -t tmpfs -o size=512m tmp /tmp
cd /tmp || exit 1

# Input that is the same everywhere.
awk 'BEGIN { x = 1; for (i = 0; i < 60000; i++) { x = (x * 1103515245 + 12345) % 2147483648; printf "%d %s%d line %d of text\n", x, substr("abcdefghijklmnop", x % 15 + 1, 3), x % 977, i } }' >text
for number in $(seq 1 20); do
  echo "int f$number(int x) { int s = 0; for (int i = 0; i < x; i++) s += i * $number ^ s >> 3; return s; }"
done >parts.c
{
  for number in $(seq 1 150); do
    echo "struct s$number { int a, b; struct s$number *next; };"
    echo "int g$number(struct s$number *p, int n) { int t = 0; while (p && n--) { switch (p->a % 7) { case 0: t += p->b; break; case 1: t ^= p->a * $number; break; case 2: t -= p->b << 2; break; default: t += g_helper(p->a, $number); } p = p->next; } return t; }"
  done
} | sed '1i static int g_helper(int a, int b) { return a * b + (a ^ b); }' >large.c
mkdir project && for number in $(seq 1 12); do
  echo "int part$number(int x) { return x * $number + 1; }" >project/part$number.c
done
printf 'all: %s\n%%.o: %%.c\n\tgcc -O0 -c -o $@ $<\n' "$(for n in $(seq 1 12); do printf 'part%d.o ' "$n"; done)" >project/Makefile

run() {
  case " ${ONLY:-$1} " in *" $1 "*) ;; *) return ;; esac
  began=$(date +%s%N)
  result=$(sh -c "$2" 2>&1 | sha256sum)
  ended=$(date +%s%N)
  echo "REAL $1 $((ended - began)) ${result%% *}"
}

run gcc 'gcc -O1 -S -o - large.c | wc -l'
run gcc-link 'gcc -O2 -shared -fPIC -o parts.so parts.c && wc -c <parts.so'
run make 'cd project && make -s -j${CPUS:-1} && ls *.o | wc -l'
run python-json 'python3 -c "import json; d = [{str(i): [i, i * 2, str(i)]} for i in range(20000)]; s = json.dumps(d); print(len(s), len(json.loads(s)))"'
run python-regex 'python3 -c "import re; t = open(\"text\").read(); print(len(re.findall(r\"[a-f]+\d{2,3} line (\d+)5\", t)))"'
run python-starts 'for i in 1 2 3 4 5 6 7 8; do python3 -c "import argparse, subprocess; print(1)"; done'
run python-objects 'python3 -c "
class P:
    def __init__(self, x): self.x = x
    def step(self, o): self.x = (self.x * 31 + o.x) % 65537
ps = [P(i) for i in range(200)]
for r in range(150):
    for i in range(200): ps[i].step(ps[i - 1])
print(sum(p.x for p in ps))"'
run perl-hash 'perl -e "my %h; for my \$i (1..150000) { \$h{\$i % 1000} .= \$i % 7; } my \$n = 0; \$n += length for values %h; print \$n"'
run perl-regex 'perl -ne "\$n++ if /^(\d+) ([a-e]+)\d+ line \d*7 /; END { print \$n }" text'
run gawk 'gawk "{ s[\$2 % 13] += \$1; c[substr(\$2, 1, 1)]++ } END { n = 0; for (k in c) n += c[k]; print n, length(s) }" text'
run mawk 'mawk "{ t += \$1 % 1000; n += length(\$0) } END { print t, n }" text'
run sort 'sort -k2 text | tail -n 3'
run grep 'grep -c -E "(ab|cd|ef)[a-z]*[0-9]+ line [0-9]*3" text'
run sed 'sed -E "s/([a-z]+)([0-9]+)/\2\1/g" text | tail -n 2'
run gzip 'gzip -6 -c text | wc -c; gzip -c text | gzip -dc | wc -c'
run xz 'xz -2 -T1 -c text | wc -c'
run zstd 'zstd -q -6 --single-thread -c text | wc -c'
run bzip2 'bzip2 -c text | bzip2 -dc | wc -c'
run sha256 'cat text text text text | sha256sum'
run openssl 'openssl enc -aes-256-cbc -K 00 -iv 00 -in text 2>/dev/null | openssl dgst -sha512'
run openssl-rsa 'openssl prime -generate -bits 64 >/dev/null; openssl pkey -in /dev/null 2>/dev/null; openssl prime 170141183460469231731687303715884105727'
run sqlite 'sqlite3 :memory: "create table t(a integer primary key, b text, c int); with recursive n(i) as (select 1 union all select i + 1 from n where i < 30000) insert into t select i, hex(i * 7919), i % 101 from n; create index x on t(c); select c, count(*), max(b) from t group by c order by 2 desc, 1 limit 3; select sum(length(b)) from t where c in (select c from t where a < 50);"'
run sqlite-file 'rm -f db; seq 1 3000 | sed "s/.*/insert into t values(&, &*&);/" | { echo "create table t(a, b); begin;"; cat; echo "commit; select sum(b) from t;"; } | sqlite3 db'
run git 'rm -rf repository && git init -q repository && cd repository && git config user.name n && git config user.email e@x && for i in 1 2 3 4 5 6; do split -n l/20 ../text part$i. ; git add . ; GIT_AUTHOR_DATE=@$i GIT_COMMITTER_DATE=@$i git commit -q -m "step $i"; done; git log --oneline | wc -l; git diff --stat HEAD~3 | tail -n 1'
run bash-loop 'bash -c "s=0; for ((i = 0; i < 30000; i++)); do s=\$(( (s * 31 + i) % 65537 )); done; echo \$s"'
run processes 'i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i + 1)); done; echo $i'
run pipelines 'i=0; while [ $i -lt 40 ]; do echo "line $i" | tr a-z A-Z | sed s/L/l/ | cut -c 1-3; i=$((i + 1)); done | sort | uniq -c'
run find 'find /usr/lib -type f | wc -l | awk "{ print (\$1 > 100) }"; find /usr/share -name "*.py" | xargs -r cat | wc -c | awk "{ print (\$1 >= 0) }"'
run tar 'tar cf - -C / usr/include 2>/dev/null | wc -c | awk "{ print (\$1 > 1000) }"; tar cf - text parts.c | tar tf -'
run diff 'sed "s/1 line/2 line/" text >text2; diff text text2 | wc -l'
run bc 'echo "scale = 220; 4 * a(1)" | bc -l | tail -c 20'
run lua 'lua5.4 -e "local t = {}; for i = 1, 200000 do t[i % 500] = (t[i % 500] or 0) + i * 3 % 7 end; local s = 0; for _, v in pairs(t) do s = s + v end; print(s)"'
run ruby 'ruby -e "h = Hash.new(0); 60000.times { |i| h[(i * 7919) % 1009] += i }; puts h.values.sum, h.keys.sort.first(3).inspect"'
run tcl 'echo "set s 0; for {set i 0} {\$i < 100000} {incr i} { set s [expr {(\$s * 31 + \$i) % 65537}] }; puts \$s" | tclsh'
run guile 'GUILE_AUTO_COMPILE=0 guile -c "(display (let loop ((i 0) (s 0)) (if (= i 300000) s (loop (+ i 1) (modulo (+ (* s 31) i) 65537)))))"'
run php 'php -n -r "\$a = []; for (\$i = 0; \$i < 200000; \$i++) { \$a[\$i % 997] = (\$a[\$i % 997] ?? 0) + \$i; } echo array_sum(\$a), md5(implode(\",\", \$a));"'
run node 'node -e "let m = new Map(); for (let i = 0; i < 300000; i++) m.set(i % 1009, (m.get(i % 1009) || 0) + i); let s = 0; for (const v of m.values()) s += v; console.log(s, JSON.stringify([...m].slice(0, 3)))"'
run jq 'jq -n "[range(8000) | {a: ., b: (. * 7 % 13)}] | group_by(.b) | map({b: .[0].b, n: length}) | tojson"'
run file 'file -b /usr/bin/* 2>/dev/null | grep -c ELF | awk "{ print (\$1 > 10) }"'

if [ "$1" = guest ]; then
  echo "REAL end"
  echo b >/proc/sysrq-trigger
  sleep 10
fi
