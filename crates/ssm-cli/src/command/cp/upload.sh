here "$D"
D=$F
if [ -d "$D" ]; then
  D=${D%/}/$N
else
  case $D in */) no "there is no folder $D" ;; esac
fi
P=${D%/*}
B=${D##*/}
[ -d "$P/" ] || no "there is no folder $P"
if [ "$K" = file ]; then
  [ ! -d "$D" ] || no "$D is a folder"
else
  need tar
  [ -d "$D" ] || { [ ! -e "$D" ] && [ ! -L "$D" ]; } || no "$D is no folder"
fi
p=$P/.$B.ssm-part
n=$P/.$B.ssm-new
[ ! -L "$p" ] && [ ! -L "$n" ] || no "a link is in the way of $p"
[ ! -e "$p" ] || { [ -f "$p" ] && [ -O "$p" ]; } || no "$p is in the way, and not yours"
umask 077
size() { set -- $(wc -c <"$p"); echo "$1"; }
s=0
[ ! -f "$p" ] || s=$(size)
t part $k $s
while read -r w v x <&3 && [ "$w" = sum ]; do t sum $(sum <"$p"); done
[ "$w" = go ] || exit 1
[ "$v" != 0 ] || { rm -f "$p"; (set -C; : >"$p") 2>/dev/null || no "$p cannot be made"; }
cat >>"$p" || no "$p cannot be written"
t got $(size) $(sum <"$p")
read -r w m i <&3
case $w in keep) ;; drop) rm -f "$p"; exit 1 ;; *) exit 1 ;; esac
put() {
  chmod "$m" "$1" && TZ=UTC0 touch -t "$i" "$1" || no "$1 cannot be given its mode and time"
}
merge() {
  for f in "$2"/* "$2"/.[!.]* "$2"/..?*; do
    [ -e "$f" ] || [ -L "$f" ] || continue
    g=$3/${f##*/}
    if [ -d "$f" ] && [ ! -L "$f" ]; then
      if [ -d "$g" ] && [ ! -L "$g" ]; then
        merge $1 "$f" "$g"
        continue
      fi
      [ ! -e "$g" ] && [ ! -L "$g" ] || no "$g is in the way of a folder"
    elif [ -d "$g" ] && [ ! -L "$g" ]; then
      no "the folder $g is in the way of a file"
    fi
    [ $1 = try ] && continue
    [ ! -L "$g" ] || rm -f "$g"
    if [ -d "$f" ] && [ ! -L "$f" ]; then chmod u+rwx "$f"; fi
    mv -f "$f" "$g" || no "$g cannot be written"
  done
}
if [ "$K" = file ]; then
  put "$p"
  mv -f "$p" "$D" || no "$D cannot be written"
else
  rm -rf "$n"
  mkdir "$n" && tar -x -p -o -f - -C "$n" <"$p" || no "$n cannot be written"
  if [ -d "$D" ]; then
    merge try "$n" "$D"
    merge move "$n" "$D"
  else
    chmod u+rwx "$n"
    mv "$n" "$D" || no "$D cannot be written"
    put "$D"
  fi
  rm -rf "$n" "$p"
fi
t done
