T=@TOKEN@
exec 2>/dev/null
s() { printf '%s %s\n' "$T" "$*"; }
for c in stty head dd mkdir mkfifo rm; do command -v $c >/dev/null || m="$m $c"; done
u64() { [ "$(echo YQ== | "$@")" = a ]; }
if u64 base64 -w0 -d; then b() { base64 -w0; echo; }; u() { base64 -d; }
elif u64 base64 -d; then b() { base64; }; u() { base64 -d; }
elif u64 base64 -D; then b() { base64; }; u() { base64 -D; }
elif u64 openssl base64 -d; then b() { openssl base64; }; u() { openssl base64 -d; }
else m="$m base64"; fi
[ -z "$m" ] || { s m$m; exit 127; }
if [ "$(printf ab | dd bs=1 count=1 iflag=fullblock)" = a ]; then
  l='-icanon min 1 time 0'
  t() { dd bs="$2" count="$3" iflag=fullblock; }
else
  l=icanon
  t() { head -n "$1"; }
fi
stty -echo $l -isig -icrnl -inlcr -igncr -ixon -istrip -opost || { s m stty; exit 127; }
for r in /dev/shm "$TMPDIR" /tmp /var/tmp; do
  d=$r/.ssm-$T
  [ -n "$r" ] && mkdir -m 700 "$d" && mkfifo "$d/i" "$d/o" "$d/e" "$d/q" "$d/l" "$d/c" "$d/t" && break
  [ -z "$r" ] || rm -rf "$d"
  d=
done
[ -n "$d" ] || { s f; exit 127; }
exec 3<&0 8<>"$d/l"
pd=
[ "$l" = icanon ] || {
  dd bs=65536 <&3 >"$d/t" & pd=$!
  exec 3<"$d/t"
}
echo >&8
say() { read -r _ <&8; s "$@"; echo >&8; }
pump() {
  n=0
  while { dd bs=65536 count=$2 of="$d/$1$n" || { say f; exit; }; } && [ -s "$d/$1$n" ]; do
    wait
    { read -r _ <&8; s $1; b <"$d/$1$n"; s .; echo >&8; } &
    n=$((1 - n))
  done <"$d/$1"
  wait
}
feed() {
  exec 6>"$d/i"
  while read -r k && [ "$k" != E ]; do
    u <"$d/b$k" >&6 || { say c; break; }
    say a
  done <"$d/q"
}
end() { read -r p <"$d/p" && kill -s "$1" -- "-$p"; }
hang_up() { trap '' HUP TERM; end HUP; rm -rf "$d"; }
take() {
  trap 'hang_up; exit' HUP TERM
  exec 7<>"$d/q" 9<>"$d/c"
  n=0
  while read -r k v; do
    case $k in
      D) n=$((1 - n)); t $v >"$d/b$n" || say f; echo $n >&7 ;;
      E) echo E >&7 ;;
      C) printf '%s\n' "$v" >&9 ;;
      S) until [ -s "$d/p" ]; do sleep 1; done; end "$v" ;;
    esac
  done
  hang_up
}
pump o @READS@ & po=$!
pump e 1 & pe=$!
feed & pf=$!
take <&3 & pt=$!
s r
cd "${HOME:-/}" || cd /
c=@COMMAND@
c="echo \$\$ >'$d/p'; ${c%.}"
if command -v setsid >/dev/null; then
  setsid sh -c "$c" <"$d/i" >"$d/o" 2>"$d/e" 3<"$d/c" 8<&-
  x=$?
else
  set -m
  sh -c "$c" <"$d/i" >"$d/o" 2>"$d/e" 3<"$d/c" 8<&- & j=$!
  set +m
  wait $j
  x=$?
fi
wait $po $pe
kill -9 $pt $pf $pd
rm -rf "$d"
s x $x
