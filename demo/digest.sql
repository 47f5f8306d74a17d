-- One line per table (rows, order-independent digest), sequence, and definition: equal before and after means restored.
\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned
set timezone = 'UTC';
set extra_float_digits = 1;
select format($$select 'table %1$s', count(*), sum(('x' || substr(md5(t::text), 1, 16))::bit(64)::bigint::numeric)
                     + sum(('x' || substr(md5(t::text), 17, 16))::bit(64)::bigint::numeric) from %1$s t$$, c.oid::regclass)
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'media' and c.relkind = 'r' order by c.relname \gexec
select format('select %L, last_value, is_called from %s', 'sequence ' || c.oid::regclass, c.oid::regclass)
from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'media' and c.relkind = 'S' order by c.relname \gexec
select 'column', c.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where n.nspname = 'media' and c.relkind in ('r', 'v') and a.attnum > 0 and not a.attisdropped order by c.relname, a.attnum;
select 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid) from pg_constraint
where connamespace = 'media'::regnamespace order by conrelid::regclass::text, conname;
select 'index', indexdef from pg_indexes where schemaname = 'media' order by indexname;
select 'view', viewname, definition from pg_views where schemaname = 'media' order by viewname;
select 'function', pg_get_functiondef(p.oid) from pg_proc p where pronamespace = 'media'::regnamespace order by proname;
select 'trigger', pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid
where c.relnamespace = 'media'::regnamespace and not tgisinternal order by tgname;
select 'enum', enumtypid::regtype, enumlabel from pg_enum order by enumtypid::regtype::text, enumsortorder;
select 'owner', c.oid::regclass, relowner::regrole, relacl from pg_class c
where relnamespace = 'media'::regnamespace and relkind in ('r', 'v', 'S') order by relname;
select 'comment', objsubid, description from pg_description
where (classoid, objoid) in (select 'pg_class'::regclass, oid from pg_class where relnamespace = 'media'::regnamespace
                             union all select 'pg_namespace'::regclass, 'media'::regnamespace::oid) order by description;
