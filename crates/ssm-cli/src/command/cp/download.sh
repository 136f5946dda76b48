here "$S"
S=$F
s=-
if [ -d "$S" ]; then
  K=tree
  need tar
  a() { tar -c -f - -C "$S" .; }
elif [ -f "$S" ]; then
  K=file
  a() { cat <"$S"; }
  set -- $(wc -c <"$S")
  s=$1
elif [ -e "$S" ]; then
  no "$S is no file and no folder"
else
  no "there is no $S"
fi
[ -r "$S" ] || no "$S cannot be read"
need tail
x=$(stat -L -c '%a %Y' "$S" 2>/dev/null || stat -L -f '%Lp %m' "$S" 2>/dev/null || echo - -)
t is $K $k $s $x
while read -r w v x <&3 && [ "$w" = sum ]; do t sum $(a 2>/dev/null | head -c "$v" | sum); done
[ "$w" = go ] || exit 1
t whole $(a 2>/dev/null | sum) &
b() { a; t read $?; }
if [ "$v" = 0 ]; then b; else b | tail -c "+$((v + 1))"; fi
wait
t done
