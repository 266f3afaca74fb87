#!/bin/sh
# Has systemd read the units. Nothing is started: the administrator first says where
# the node listens and where the database is.
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
