-- Makes three roles in the database one is connected to, or brings them up to date; for an administrator, with psql 14 or
-- newer, as often as one likes. Passwords come from the environment, so that they stand in no list of processes:
--
--   embedmill_owner   owns the tables and migrates them: `embedmill migrate` alone, and whoever operates by hand
--   embedmill_api     the service, and programs that submit without it
--   embedmill_worker  workers and reconcilers
--
-- What the last two may do on each table `embedmill migrate` grants, as their owner, each time it is run.
\set ON_ERROR_STOP on
\getenv owner_password EMBEDMILL_OWNER_PASSWORD
\getenv api_password EMBEDMILL_API_PASSWORD
\getenv worker_password EMBEDMILL_WORKER_PASSWORD

-- A statement that holds a password is written into no log.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET lock_timeout = '10s';
-- What is so already is no news.
SET client_min_messages = 'warning';

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['embedmill_owner', 'embedmill_api', 'embedmill_worker']) AS name
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE embedmill_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'owner_password';
ALTER ROLE embedmill_api LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'api_password';
ALTER ROLE embedmill_worker LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD :'worker_password';

-- `doctor` sees everybody's sessions when the owner asks.
GRANT pg_read_all_stats TO embedmill_owner;

-- Nobody else comes in, and nobody else makes anything; not even temporary tables.
ALTER DATABASE :"DBNAME" OWNER TO embedmill_owner;
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO embedmill_api, embedmill_worker;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO embedmill_owner;
GRANT USAGE ON SCHEMA public TO embedmill_api, embedmill_worker;

-- What is there already, from a time before the roles, goes to the owner; what belongs to an extension stays.
SELECT format('ALTER TABLE %I.%I OWNER TO embedmill_owner', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm') AND c.relowner <> 'embedmill_owner'::regrole
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
UNION ALL
SELECT format('ALTER FUNCTION %s OWNER TO embedmill_owner', p.oid::regprocedure)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'public' AND p.prokind = 'f' AND p.proowner <> 'embedmill_owner'::regrole
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
\gexec
