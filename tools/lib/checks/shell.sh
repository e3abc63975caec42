# What a shell with busybox' tools does, a line each, for tools/check-userland: the same on the host and in a guest.
PATH=/bin
cd /tmp || exit 1

# A hundred megabytes through pipes, and through a file.
seq 1 13000000 | head -c 100000000 | gzip -1 | gunzip | dd bs=4k 2>&- | sha256sum
dd if=/bin/busybox of=copy bs=1000 2>&- && cmp copy /bin/busybox && echo "dd: same"
seq 1 300000 | tee numbers | md5sum
gzip -k numbers && gunzip -c numbers.gz | cmp - numbers && echo "gzip: same"
bzip2 -k numbers && bunzip2 -c numbers.bz2 | sha1sum
tar cf archive.tar numbers copy && tar xOf archive.tar numbers | sha512sum

# Processes.
sum=0 i=0
while [ $i -lt 300 ]; do
  (exit $((i % 100)))
  sum=$((sum + $?)) i=$((i + 1))
done
echo "forks: $sum"
i=0
while [ $i -lt 150 ]; do /bin/busybox true && i=$((i + 1)); done
echo "execs: $i"
echo one two three | xargs -n 1 busybox echo | sort -r | tr '\n' ' '
echo

# Signals.
trap 'echo "caught USR1"' USR1
kill -USR1 $$
sleep 30 & kill -TERM $!; wait $!; echo "sleep ended with $?"
timeout 1 sleep 30; echo "timeout ended with $?"
sh -c 'trap "" INT; kill -INT $$; echo "ignored INT"'
sh -c 'kill -SEGV $$'; echo "killed: $?"

# Numbers and text.
awk 'BEGIN { for (i = 1; i < 300000; i++) s += sin(i) / i; printf "awk: %.12g\n", s }'
echo '2 3 ^ 7 % 1.5 + p' | dc
seq 1 20000 | sed 's/\([0-9]\)\1/<&>/g' | grep -c '<'
seq 1 50000 | sort -k1.2 | md5sum
seq 1 1000 | sort -n | uniq | wc
seq 100 -3 1 >a; seq 100 -2 1 >b; diff a b | cksum
echo "shell: done"
