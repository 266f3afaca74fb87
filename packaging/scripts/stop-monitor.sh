#!/bin/sh
# Stops the units when the package goes; an upgrade leaves them running, and the
# administrator restarts them one node at a time (docs/install.md).
set -e
case "$1" in
  remove | 0) [ -d /run/systemd/system ] && systemctl --no-reload disable --now vda-monitor.service || true ;;
esac
