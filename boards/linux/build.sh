#!/bin/bash
# Build the platform of Linux cameras, a Debian package: images/linux/patrolink-platform.deb in the folder
# PATROLINK_BUILD, by default build/ of the checkout. It takes agent images of the release keys in the file
# PATROLINK_RELEASE_TRUST; without one, none. The same sources and keys give the same bytes. Exit code 4: a tool is missing.
set -euo pipefail
umask 022
board_dir=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$board_dir/../.." && pwd)
out=${PATROLINK_BUILD:-$root/build}/images/linux
info() { echo "$@" >&2; }

for pair in dpkg-deb:dpkg python3:python3; do
  command -v "${pair%%:*}" >/dev/null || { info "error: ${pair%%:*} is missing; apt-get install ${pair#*:}"; exit 4; }
done

mkdir -p "$out"
stage=$(mktemp -d "$out/package.XXXXXX")
trap 'rm -rf "$stage"' EXIT

# --- files ---
chmod 755 "$stage"
library=$stage/usr/lib/patrolink
place() { install -D -m "$1" "$board_dir/$2" "$stage/$3"; }
mkdir -p "$library"
python3 "$board_dir/agent_sources.py" "$library" --platform
python3 "$root/boards/platform_module.py" "$library" linux ${PATROLINK_RELEASE_TRUST:+"$PATROLINK_RELEASE_TRUST"}
place 644 package/patrolink.service usr/lib/systemd/system/patrolink.service
place 644 package/sysusers.conf usr/lib/sysusers.d/patrolink.conf
place 644 package/tmpfiles.conf usr/lib/tmpfiles.d/patrolink.conf
place 755 package/patrolink-slots usr/sbin/patrolink-slots
place 644 README.md usr/share/doc/patrolink-platform/README.md
install -D -m 644 "$root/LICENSE" "$stage/usr/share/doc/patrolink-platform/copyright"
find "$stage/usr" -type d -exec chmod 755 {} + -o -path "$library/*" -exec chmod 644 {} +

# --- control ---
version=$(sed -n 's/^VERSION = "\([^"]*\)".*/\1/p' "$root/protocol/patrolink_protocol/__init__.py")
kilobytes=$(find "$stage" -type f -exec cat {} + | wc -c | awk '{print int(($1 + 1023) / 1024)}')
for script in postinst prerm; do place 755 "package/$script" "DEBIAN/$script"; done
sed -e "s/@VERSION@/$version/" -e "s/@KILOBYTES@/$kilobytes/" "$board_dir/package/control" >"$stage/DEBIAN/control"
(cd "$stage" && find usr -type f | LC_ALL=C sort | xargs md5sum) >"$stage/DEBIAN/md5sums"
chmod 644 "$stage/DEBIAN/control" "$stage/DEBIAN/md5sums"

# --- package: owner, times and compression do not depend on this machine ---
export SOURCE_DATE_EPOCH=1744675200
find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zgzip -z9 --build "$stage" "$stage.deb" >/dev/null
mv "$stage.deb" "$out/patrolink-platform.deb"
info "$(stat -c %s "$out/patrolink-platform.deb") bytes in images/linux/patrolink-platform.deb, sha256 $(sha256sum "$out/patrolink-platform.deb" | cut -c1-16)"
