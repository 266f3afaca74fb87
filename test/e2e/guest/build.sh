#!/bin/bash
# build.sh DIR: assemble DIR/vmlinux and DIR/initramfs.cpio from Debian 13
# packages. They are resolved and fetched with a private apt root and unpacked
# with dpkg-deb; nothing is installed here and no maintainer script is run.
set -euo pipefail
out=$1
work=$out/work
suite=trixie
mkdir -p "$work"/apt/{lists/partial,cache/archives/partial} "$work/debs"

. "$(dirname "$0")/mirrors.sh"
mirrors $suite > "$work/apt/sources.list"
: > "$work/apt/status"
apt=(-o Dir::Etc::SourceList="$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
     -o Dir::State::Lists="$work/apt/lists" -o Dir::State::Status="$work/apt/status"
     -o Dir::Cache="$work/apt/cache" -o APT::Sandbox::User=root
     -o Acquire::Languages=none -o APT::Install-Recommends=false -o Debug::NoLocking=1)
apt-get -qq "${apt[@]}" update

packages=(busybox-static nvme-cli jq parted util-linux fdisk mount kmod iproute2 bash coreutils
          e2fsprogs xfsprogs procps qemu-guest-agent fio)
kernel=$(apt-cache "${apt[@]}" depends linux-image-cloud-amd64 | awk '/Depends: linux-image/{print $2; exit}')
apt-get -qq -y "${apt[@]}" --download-only install "${packages[@]}" >/dev/null
(cd "$work/debs" && apt-get -qq "${apt[@]}" download "$kernel" >/dev/null)

# One tree with everything in it, to copy from.
full=$work/full
rm -rf "$full" "$work/kernel"
mkdir -p "$full"/usr/{bin,sbin,lib,lib64} "$work/kernel"
for d in bin sbin lib lib64; do ln -s usr/$d "$full/$d"; done
for deb in "$work"/apt/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$full" --keep-directory-symlink
done
dpkg-deb --fsys-tarfile "$work/debs/$kernel"_*.deb | tar -x -C "$work/kernel"
for deb in "$work"/apt/cache/archives/*.deb "$work/debs/$kernel"_*.deb; do
  dpkg-deb -W --showformat '${Package} ${Version}\n' "$deb"
done | sort > "$out/MANIFEST"

# bzImage to ELF, which QEMU starts at its PVH entry without the BIOS's help.
python3 - "$work"/kernel/boot/vmlinuz-* "$out/vmlinux" <<'PY'
import lzma, struct, subprocess, sys
image = open(sys.argv[1], 'rb').read()
offset, length = struct.unpack_from('<II', image, 0x248)  # setup header: payload
start = ((image[0x1f1] or 4) + 1) * 512 + offset
payload = image[start:start + length - 4]                 # the last 4 bytes are the size
tool = {b'\x28\xb5': ['zstd', '-dcq'], b'\x02\x21': ['lz4', '-dcq']}.get(payload[:2])
elf = subprocess.run(tool, input=payload, stdout=subprocess.PIPE, check=True).stdout if tool else lzma.decompress(payload)
assert elf[:4] == b'\x7fELF'
open(sys.argv[2], 'wb').write(elf)
PY

# The guest's root: the programs named here and the libraries they need.
root=$work/root
rm -rf "$root"
mkdir -p "$root"/{dev,proc,sys,run,tmp,root,mnt,etc/nvme,var} "$root"/usr/{bin,sbin,lib,lib64,local/bin}
for d in bin sbin lib lib64; do ln -s usr/$d "$root/$d"; done
ln -s ../run "$root/var/run"
libraries() {
  if [ "$(basename "$1")" = busybox ]; then return; fi # static
  chroot "$full" /lib64/ld-linux-x86-64.so.2 --list "$1" 2>/dev/null |
    sed -n 's/.*=> \(\/[^ ]*\).*/\1/p;s/^\t\(\/lib64[^ ]*\).*/\1/p'
}
put() {
  local path real
  for path in "$@"; do
    real=$(chroot "$full" /usr/bin/busybox realpath "$(dirname "$path")")/$(basename "$path")
    if [ -e "$root$real" ]; then continue; fi
    mkdir -p "$root$(dirname "$real")"
    cp -L "$full$real" "$root$real"
    strip --strip-unneeded "$root$real" 2>/dev/null || true # scripts stay as they are
  done
}
[ -e "$full/usr/bin/busybox" ] || mv "$full/bin/busybox" "$full/usr/bin/busybox"
for name in busybox nvme jq parted partprobe lsblk blkid blockdev wipefs findmnt mount umount \
            kmod ip ss qemu-ga bash dd timeout stat date uuidgen mke2fs e2fsck fio dmesg ps pgrep \
            blkdiscard sha256sum sync fsfreeze resize2fs mkfs.xfs xfs_growfs; do
  found=
  for dir in usr/bin usr/sbin; do
    if [ -e "$full/$dir/$name" ]; then found=/$dir/$name; break; fi
  done
  [ -n "$found" ] || { echo "no program $name in the packages" >&2; exit 1; }
  put "$found" $(libraries "$found")
done
for link in insmod modprobe rmmod lsmod depmod modinfo; do ln -sf ../bin/kmod "$root/usr/sbin/$link"; done
ln -sf mke2fs "$root/usr/sbin/mkfs.ext4"
ln -sf e2fsck "$root/usr/sbin/fsck.ext4"
for applet in $("$root/usr/bin/busybox" --list); do
  [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files\n' > "$root/etc/nsswitch.conf"
echo '127.0.0.1 localhost' > "$root/etc/hosts"
# parted waits for udev, which the guest has none of: devtmpfs makes the nodes.
printf '#!/bin/sh\nexit 0\n' > "$root/usr/bin/udevadm"
# The tutorial types sudo and apt; the guest is root and has the packages.
printf '#!/bin/sh\nexec "$@"\n' > "$root/usr/bin/sudo"
cat > "$root/usr/bin/apt" <<'APT'
#!/bin/sh
# apt install -y PACKAGE...: succeeds for what the image was built with.
shift
for p in "$@"; do
  case $p in -*) continue ;; esac
  grep "^$p " /etc/packages || { echo "E: Unable to locate package $p" >&2; exit 100; }
done
APT
chmod 755 "$root"/usr/bin/{udevadm,sudo,apt}
cp "$out/MANIFEST" "$root/etc/packages"

# Kernel modules, uncompressed: unpacking them in the guest is what costs time.
version=$(basename "$work"/kernel/boot/vmlinuz-*)
version=${version#vmlinuz-}
modules=$work/kernel/lib/modules
[ -d "$modules" ] || modules=$work/kernel/usr/lib/modules
rm -rf "$work/kmods"
mkdir -p "$work/kmods/lib"
ln -s "$modules" "$work/kmods/lib/modules"
depmod -b "$work/kmods" "$version"
for module in virtio_pci virtio_net virtio_console virtio_rng nvme-core nvme-fabrics nvme-tcp \
              crc32c_generic crc32c-intel ext4 xfs hmac dh_generic sha256_generic sha512_generic; do
  modprobe -d "$work/kmods" -S "$version" --show-depends --ignore-install "$module" 2>/dev/null |
    awk '$1=="insmod"{print $2}' || true # built into the kernel
done | sort -u | while read -r file; do
  relative=${file#"$work/kmods/lib/modules/"}
  relative=${relative#"$modules/"}
  target=$root/usr/lib/modules/$relative
  mkdir -p "$(dirname "$target")"
  case $file in
    *.xz) xz -dc "$file" > "${target%.xz}" ;;
    *) cp "$file" "$target" ;;
  esac
done
find "$root/usr/lib/modules" -name '*.ko' -exec strip --strip-debug {} +
cp "$modules/$version"/modules.{builtin,builtin.modinfo,order} "$root/usr/lib/modules/$version/"
depmod -b "$root" "$version"

install -m 755 "$(dirname "$0")/init.sh" "$root/init"
cat > "$root/etc/inittab" <<'TAB'
::respawn:/usr/sbin/guest-agent
ttyS0::respawn:-/bin/sh
TAB
cat > "$root/usr/sbin/guest-agent" <<'AGENT'
#!/bin/sh
for port in /sys/class/virtio-ports/*; do
  if [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ]; then device=/dev/${port##*/}; fi
done
[ -n "$device" ] || { sleep 1; exit 1; }
export PATH=/usr/sbin:/usr/bin HOME=/root
cd /root
exec qemu-ga -m virtio-serial -p "$device" -t /run -f /run/qga.pid
AGENT
chmod 755 "$root/usr/sbin/guest-agent"
(cd "$root" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc -R 0:0 --reproducible) > "$out/initramfs.cpio"
rm -rf "$work"
