-- Makes three roles in the database one is connected to, or brings them up to date; for an administrator, with psql 14 or
-- newer, as often as one likes. Passwords come from the environment, so that they stand in no list of processes:
--
--   embedmill_owner   owns the tables and migrates them: `embedmill migrate` alone, and whoever operates by hand
--   embedmill_api     the service, and programs that submit without it
--   embedmill_worker  workers and reconcilers
--
-- What the last two may do on each table `embedmill migrate` grants, as their owner, each time it is run.
--
-- The administrator is a superuser; or, as on managed servers, one with CREATEROLE and CREATEDB who owns the database. He
-- then becomes a member of embedmill_owner, and is told what he may not do.
\set ON_ERROR_STOP on
\getenv owner_password EMBEDMILL_OWNER_PASSWORD
\getenv api_password EMBEDMILL_API_PASSWORD
\getenv worker_password EMBEDMILL_WORKER_PASSWORD

-- A statement that holds a password is written into no log, as far as that is the administrator's to say.
DO $$
DECLARE
    setting text[];
BEGIN
    FOREACH setting SLICE 1 IN ARRAY ARRAY[
        ['log_statement', 'none'], ['log_min_duration_statement', '-1'], ['log_min_error_statement', 'panic']
    ] LOOP
        BEGIN
            PERFORM set_config(setting[1], setting[2], false);
        EXCEPTION WHEN insufficient_privilege THEN
            IF setting[1] = 'log_statement' AND current_setting('log_statement') <> 'none' THEN
                RAISE WARNING 'the server logs statements, the passwords of these roles too: look after its log';
            END IF;
        END;
    END LOOP;
END
$$;
SET lock_timeout = '10s';
-- What is so already is no news.
SET client_min_messages = 'warning';

SELECT format('CREATE ROLE %I LOGIN', name)
FROM unnest(ARRAY['embedmill_owner', 'embedmill_api', 'embedmill_worker']) AS name
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) \gexec
-- What a new role has not need not be taken from it, which only a superuser may.
SELECT format('ALTER ROLE %I', rolname) || CASE WHEN rolsuper THEN ' NOSUPERUSER' ELSE '' END
    || CASE WHEN rolreplication THEN ' NOREPLICATION' ELSE '' END || CASE WHEN rolcreatedb THEN ' NOCREATEDB' ELSE '' END
    || CASE WHEN rolcreaterole THEN ' NOCREATEROLE' ELSE '' END || CASE WHEN rolcanlogin THEN '' ELSE ' LOGIN' END
FROM pg_roles
WHERE rolname IN ('embedmill_owner', 'embedmill_api', 'embedmill_worker')
  AND (rolsuper OR rolreplication OR rolcreatedb OR rolcreaterole OR NOT rolcanlogin) \gexec
ALTER ROLE embedmill_owner PASSWORD :'owner_password';
ALTER ROLE embedmill_api PASSWORD :'api_password';
ALTER ROLE embedmill_worker PASSWORD :'worker_password';

-- `doctor` sees everybody's sessions when the owner asks.
DO $$
BEGIN
    GRANT pg_read_all_stats TO embedmill_owner;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'embedmill doctor will see its own sessions alone: only a superuser grants pg_read_all_stats here';
END
$$;

-- Only a superuser gives to whom he does not belong.
SELECT 'GRANT embedmill_owner TO CURRENT_USER' FROM pg_roles WHERE rolname = current_user AND NOT rolsuper \gexec

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
