# What programs of a Debian system do, for tools/check-userland: the same on the host and in a guest.
export PATH=/usr/bin:/bin LC_ALL=C HOME=/tmp
cd /tmp || exit 1
echo "bash $BASH_VERSION"

# bash
declare -A squares
for ((i = 0; i < 3000; i++)); do squares[$i]=$((i * i)); done
total=0; for key in "${!squares[@]}"; do ((total += squares[$key])); done
echo "bash: $total"
seq 1 5000 | { lines=0; while read -r _; do ((lines++)); done; echo "lines: $lines"; }
for ((i = 0; i < 100; i++)); do result=$(echo $((i * 7)) | cat); done; echo "pipes: $result"

# Utilities
seq 1 200000 >numbers
sort -R --random-source=numbers numbers | sort -n --parallel=2 -S 1M | cmp - numbers && echo "sort: same"
sha256sum numbers; sha512sum numbers; b2sum numbers; cksum numbers
for packer in "gzip -6" "bzip2 -9" "xz -1"; do $packer -c numbers | ${packer%% *} -dc | cmp - numbers && echo "$packer: same"; done
gzip -9nc numbers | wc -c; bzip2 -c numbers | wc -c; xz -6c numbers | sha256sum
tar --sort=name --owner=0 --group=0 --mtime=@0 -C /usr -cf - bin | sha256sum
find /usr -type f -size +100k | sort | sha256sum
mawk '{ s += sqrt($1); h[$1 % 97]++ } END { printf "mawk: %.10f %d\n", s, h[13] }' numbers
echo 'scale=60; 4*a(1); 2^521-1' | bc -l
seq 1 400 | factor | sha256sum; numfmt --to=iec 123456789; od -A x -t f8 -N 64 numbers
printf 'a\nb\nc\n' | split -l 1 - part.; cat part.a?; grep -cE '(1|7){3}' numbers; sed -n '/99$/p' numbers | tail -n 1

# Perl
perl -e '
  my ($s, %h) = 0; for (1..300000) { $s += sin($_) * sqrt($_); $h{$_ % 1009} .= chr(65 + $_ % 26) }
  printf "perl: %.10g %d %s\n", $s, scalar(keys %h), unpack("%32C*", join "", map { $h{$_} } sort keys %h);
  my $text = join " ", map { $_ * 7919 % 100003 } 1..20000; my $n = () = $text =~ /\b(\d)\d*\1\b/g; print "matches: $n\n";
  my $sum = 0; for my $i (1..50) { my $pid = fork; exit $i unless $pid; waitpid $pid, 0; $sum += $? >> 8 } print "forks: $sum\n";
  local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select undef, undef, undef, 30 }; print "caught $@";
  local $SIG{FPE} = sub { print "caught FPE\n" }; kill FPE => $$;'

# Python
python3.11 -c '
import ctypes, decimal, fractions, hashlib, json, os, re, signal, struct, threading, zlib, bz2, lzma, math, queue
print("python", hashlib.sha256(b"x" * 5_000_000).hexdigest(), hashlib.blake2b(b"y" * 3_000_000).hexdigest()[:32])
decimal.getcontext().prec = 200
print(decimal.Decimal(2).sqrt(), fractions.Fraction(355, 113) ** 7)
data = bytes(i * i % 251 for i in range(400_000))
for pack in (zlib, bz2, lzma): assert pack.decompress(pack.compress(data)) == data
print("packers: same", zlib.crc32(data), zlib.adler32(data))
print(pow(3, 20000, 2**1279 - 1) % 10**40, sum(math.sin(i) for i in range(200000)))
results, work = [], queue.Queue()
def worker():
    while (item := work.get()) is not None: results.append(item ** 3 % 1000003)
threads = [threading.Thread(target=worker) for _ in range(8)]
for thread in threads: thread.start()
for i in range(4000): work.put(i)
for _ in threads: work.put(None)
for thread in threads: thread.join()
print("threads:", len(results), sum(results))
total = 0
for i in range(40):
    read, write = os.pipe()
    if (child := os.fork()) == 0: os.write(write, struct.pack("<d", math.sqrt(i))); os._exit(i)
    total += struct.unpack("<d", os.read(read, 8))[0] + os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(read), os.close(write)
print("children:", total)
ticks = 0
def tick(*_):
    global ticks
    ticks += 1
signal.signal(signal.SIGALRM, tick); signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
while ticks < 20: signal.pause()
signal.setitimer(signal.ITIMER_REAL, 0); print("ticks: enough")
child = os.fork()
if child == 0: ctypes.string_at(8)
print("fault:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps({"words": sorted(set(re.findall(r"\w+", "the quick brown fox jumps over the lazy dog")))}))
'
echo "debian: done"
