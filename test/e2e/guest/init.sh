#!/bin/busybox sh
# The guest's first process: mounts the pseudo file systems, loads NVMe/TCP,
# sets up the network from the kernel command line and hands over to busybox
# init, which keeps the guest agent and a serial shell running.
#   guest.hostname=NAME   guest.ip=ADDR/LEN   guest.hostid=UUID
export PATH=/usr/sbin:/usr/bin HOME=/root
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs tmpfs /dev/shm
exec </dev/console >/dev/console 2>&1
for word in $(cat /proc/cmdline); do
  case $word in
    guest.hostname=*) busybox hostname "${word#*=}" ;;
    guest.ip=*) address=${word#*=} ;;
    guest.hostid=*)
      echo "${word#*=}" > /etc/nvme/hostid
      echo "nqn.2014-08.org.nvmexpress:uuid:${word#*=}" > /etc/nvme/hostnqn ;;
  esac
done
modprobe -aq virtio_pci virtio_console virtio_net virtio_rng nvme-fabrics nvme-tcp
ip link set lo up
ip link set eth0 up
ip addr add "$address" dev eth0
exec /usr/bin/busybox init
