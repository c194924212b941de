#!/bin/sh
# Writes a password for each user of each server into a folder (default: secrets); those that are there stay.
# The folder is yours alone; the files in it can be read by every user, since each container runs as one of its own.
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"
for name in postgres_password postgres_owner_password postgres_api_password postgres_worker_password \
    redis_worker_password redis_producer_password grafana_password; do
    [ -s "$folder/$name" ] && continue
    od -An -v -tx1 -N 24 /dev/urandom | tr -d ' \n' >"$folder/$name"
    chmod 444 "$folder/$name"
    echo "wrote $folder/$name"
done
