//! Publications and subscriptions. A restored subscription is never enabled and never touches its publisher: two
//! databases that apply changes from one slot would each lose half of them.

use super::comments::comment;
use super::rows::{Columns, query};
use super::write::{Context, Rendered, relation};
use crate::base::error::Result;
use crate::engines::postgres::sql::quote::{literal, quote_ident};

pub(super) async fn publications(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let generated = context.since(18, "p.pubgencols::text", "'n'");
    let sql = format!(
        "SELECT p.oid, p.pubname::text, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot, {generated}, \
         pg_catalog.pg_get_userbyid(p.pubowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = p.oid AND ds.classoid = 'pg_catalog.pg_publication'::pg_catalog.regclass AND ds.objsubid = 0) \
         FROM pg_catalog.pg_publication p WHERE p.oid = ANY($1::oid[])"
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "publications", &sql, &[&oids]).await? {
        let what = format!("PUBLICATION {}", quote_ident(&row.text(1)?));
        let all = if row.flag(2)? { " FOR ALL TABLES" } else { "" };
        let mut published = Vec::new();
        for (at, word) in [(3, "insert"), (4, "update"), (5, "delete"), (6, "truncate")] {
            if row.flag(at)? {
                published.push(word);
            }
        }
        let mut with = format!("publish = '{}'", published.join(", "));
        if row.flag(7)? {
            with.push_str(", publish_via_partition_root = true");
        }
        if row.text(8)? == "s" {
            with.push_str(", publish_generated_columns = stored");
        }
        let mut sql = format!("CREATE {what}{all} WITH ({with});\n");
        context.owner(&mut sql, &what, &row.text(9)?);
        comment(&mut sql, &what, row.opt(10)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn tables(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let extra = context.since(
        15,
        "pg_catalog.pg_get_expr(r.prqual, r.prrelid), ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(r.prattrs) WITH ORDINALITY k(number, place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = k.number ORDER BY k.place)",
        "NULL::text, NULL::text[]",
    );
    let sql = format!(
        "SELECT r.oid, p.pubname::text, r.prrelid, {extra} FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid \
         WHERE r.oid = ANY($1::oid[])"
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "tables of publications", &sql, &[&oids]).await? {
        let Some(table) = relation(context, row.oid(2)?) else {
            continue;
        };
        let mut sql = format!(
            "ALTER PUBLICATION {} ADD TABLE ONLY {table}",
            quote_ident(&row.text(1)?)
        );
        let columns: Vec<String> = row.list(4)?.iter().map(|c| quote_ident(c)).collect();
        if !columns.is_empty() {
            sql.push_str(&format!(" ({})", columns.join(", ")));
        }
        if let Some(filter) = row.opt(3)? {
            sql.push_str(&format!(" WHERE ({filter})"));
        }
        sql.push_str(";\n");
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn schemas(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    let sql = "SELECT r.oid, p.pubname::text, n.nspname::text FROM pg_catalog.pg_publication_namespace r \
               JOIN pg_catalog.pg_publication p ON p.oid = r.pnpubid JOIN pg_catalog.pg_namespace n ON n.oid = r.pnnspid WHERE r.oid = ANY($1::oid[])";
    let mut rendered = Rendered::new();
    for row in query(context.client, "schemas of publications", sql, &[&oids]).await? {
        let sql = format!(
            "ALTER PUBLICATION {} ADD TABLES IN SCHEMA {};\n",
            quote_ident(&row.text(1)?),
            quote_ident(&row.text(2)?)
        );
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}

pub(super) async fn subscriptions(context: &Context<'_>, oids: &[u32]) -> Result<Rendered> {
    // Each option as it is written, null where it has its default.
    let since = |major, sql| context.since(major, sql, "NULL::text");
    let stream = match context.graph.version {
        160_000.. => {
            "CASE s.substream WHEN 't' THEN 'streaming = on' WHEN 'p' THEN 'streaming = parallel' WHEN 'f' THEN 'streaming = off' END"
        }
        // Said in any case: 18 has another default.
        140_000.. => "CASE WHEN s.substream THEN 'streaming = on' ELSE 'streaming = off' END",
        _ => "NULL::text",
    };
    let sql = format!(
        "SELECT s.oid, s.subname::text, s.subconninfo, s.subpublications, s.subslotname::text, s.subsynccommit, \
         pg_catalog.pg_get_userbyid(s.subowner)::text, (SELECT ds.description FROM pg_catalog.pg_description ds WHERE ds.objoid = s.oid AND ds.classoid = 'pg_catalog.pg_subscription'::pg_catalog.regclass AND ds.objsubid = 0), \
         pg_catalog.array_remove(ARRAY[{}, {stream}, {}, {}, {}, {}, {}], NULL), {} FROM pg_catalog.pg_subscription s WHERE s.oid = ANY($1::oid[])",
        since(14, "CASE WHEN s.subbinary THEN 'binary = true' END"),
        since(15, "CASE WHEN s.subtwophasestate <> 'd' THEN 'two_phase = on' END"),
        since(15, "CASE WHEN s.subdisableonerr THEN 'disable_on_error = true' END"),
        since(
            16,
            "CASE WHEN NOT s.subpasswordrequired THEN 'password_required = false' END"
        ),
        since(16, "CASE WHEN s.subrunasowner THEN 'run_as_owner = true' END"),
        since(17, "CASE WHEN s.subfailover THEN 'failover = true' END"),
        since(16, "NULLIF(s.suborigin, 'any')"),
    );
    let mut rendered = Rendered::new();
    for row in query(context.client, "subscriptions", &sql, &[&oids]).await? {
        let what = format!("SUBSCRIPTION {}", quote_ident(&row.text(1)?));
        let publications: Vec<String> = row.list(3)?.iter().map(|p| quote_ident(p)).collect();
        let slot = row.opt(4)?.map_or("NONE".to_owned(), |s| literal(&s));
        let mut with = vec!["connect = false".to_owned(), format!("slot_name = {slot}")];
        with.extend(row.list(8)?);
        with.extend(row.opt(9)?.map(|o| format!("origin = {}", literal(&o))));
        let commit = row.text(5)?;
        if commit != "off" {
            with.push(format!("synchronous_commit = {}", literal(&commit)));
        }
        let mut sql = format!(
            "CREATE {what} CONNECTION {} PUBLICATION {} WITH ({});\n",
            literal(&row.text(2)?),
            publications.join(", "),
            with.join(", ")
        );
        context.owner(&mut sql, &what, &row.text(6)?);
        // Before 16 the owner of a subscription was always who applied its changes; from there on that is an option.
        if !context.at_least(16) {
            let statement = literal(&format!("ALTER {what} SET (run_as_owner = true)"));
            let block = format!(
                "BEGIN IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 THEN EXECUTE {statement}; END IF; END"
            );
            sql.push_str(&format!("DO LANGUAGE plpgsql {};\n", literal(&block)));
        }
        comment(&mut sql, &what, row.opt(7)?.as_deref());
        rendered.insert(row.oid(0)?, sql);
    }
    Ok(rendered)
}
