#!/bin/sh
# Starts Redis with the two users of users.acl.example, whose passwords are in files; the user named `default` is off.
# Redis is given the SHA-256 of each: the words themselves stand in no list of processes and in no other file.
set -eu
here=$(dirname "$0")

hash_of() {
    word=$(cat "$1")
    [ -n "$word" ] || { echo "$1 is empty: write the password into it." >&2; exit 1; }
    printf %s "$word" | sha256sum | cut -d ' ' -f 1
}

worker=$(hash_of /run/secrets/redis_worker_password)
producer=$(hash_of /run/secrets/redis_producer_password)
umask 077
sed -e "/^user embedmill-worker /s/ >[^ ]*/ #$worker/" -e "/^user embedmill-producer /s/ >[^ ]*/ #$producer/" \
    "$here/users.acl.example" >/tmp/users.acl
exec redis-server "$here/redis.conf" "$@"
