#!/bin/sh
# Makes the roles of roles.sql in the database that PGHOST, PGUSER and PGDATABASE name; every password is in a file.
set -eu
word_of() {
    word=$(cat "/run/secrets/$1")
    [ -n "$word" ] || { echo "/run/secrets/$1 is empty: write the password into it." >&2; exit 1; }
    printf %s "$word"
}
PGPASSWORD=$(word_of postgres_password)
EMBEDMILL_OWNER_PASSWORD=$(word_of postgres_owner_password)
EMBEDMILL_API_PASSWORD=$(word_of postgres_api_password)
EMBEDMILL_WORKER_PASSWORD=$(word_of postgres_worker_password)
export PGPASSWORD EMBEDMILL_OWNER_PASSWORD EMBEDMILL_API_PASSWORD EMBEDMILL_WORKER_PASSWORD
exec psql --no-psqlrc --quiet --file "$(dirname "$0")/roles.sql"
