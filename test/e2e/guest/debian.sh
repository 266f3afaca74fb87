#!/bin/bash
# debian.sh DIR: makes DIR/disk.img, a Debian 13 installation with systemd on an ext4
# disk. With KERNEL=yes it can be booted as a machine, which has nvme-cli, and
# DIR/vmlinux and DIR/initramfs.cpio are its kernel and the file system it starts from.
set -euo pipefail
out=$1
work=$out/work
rm -rf "$work"
mkdir -p "$work"
suite=trixie
. "$(dirname "$0")/mirrors.sh"
mirrors "$suite" > "$work/sources.list"

# An initramfs of what the disk needs, which takes seconds less to make and to unpack.
small='mkdir -p "$1/etc/initramfs-tools/conf.d" &&
  echo MODULES=list > "$1/etc/initramfs-tools/conf.d/guest" &&
  printf "%s\n" virtio_pci virtio_blk ext4 > "$1/etc/initramfs-tools/modules"'
include=systemd-sysv,udev,iproute2
if [ "$KERNEL" = yes ]; then include+=,kmod,nvme-cli,e2fsprogs,qemu-guest-agent,linux-image-cloud-amd64; fi
mmdebstrap --quiet --mode=root --variant=minbase --aptopt='Acquire::Languages "none"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --essential-hook="$small" \
  --include=$include \
  "$suite" "$work/root" - < "$work/sources.list"
if [ "$KERNEL" = yes ]; then
  cp "$work"/root/boot/vmlinuz-* "$out/vmlinux"
  cp "$work"/root/boot/initrd.img-* "$out/initramfs.cpio"
  echo '/dev/vda / ext4 defaults 0 1' > "$work/root/etc/fstab"
  # The network is set up in the running machine; nobody logs in.
  ln -s /usr/lib/systemd/system/systemd-networkd.service "$work/root/etc/systemd/system/multi-user.target.wants/"
fi
rm -f "$out/disk.img"
truncate -s 2G "$out/disk.img"
mke2fs -q -t ext4 -d "$work/root" "$out/disk.img"
rm -rf "$work"
