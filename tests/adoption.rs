//! A database on which the specification's own SQL was run before us: the same migrations bring it to the same schema,
//! in place, and nothing in it is lost.

use sqlx::{AssertSqlSafe, Executor, PgConnection, Row, raw_sql};
use switchboard::db::{
    Login,
    migrations::{Migrations, State},
};
use uuid::Uuid;

use crate::support::cluster::TestDatabase;

const PORTAL: &str = include_str!("fixtures/portal.sql");
const SPECIFICATION: &str = include_str!("fixtures/specification.sql");
const LIFE: &str = include_str!("fixtures/portal_life.sql");
const BY_HAND: &str = include_str!("fixtures/portal_by_hand.sql");
const CATALOGUE: &str = include_str!("fixtures/catalogue.sql");

/// Whose fixture's number this is.
fn person(n: u32) -> Uuid {
    // read as it is written: person 19 is …0019
    Uuid::parse_str(&format!("00000000-0000-0000-0000-{n:012}")).unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) {
    let sql = format!("begin; {sql}; commit;");
    connection.execute(raw_sql(AssertSqlSafe(sql))).await.unwrap();
}

async fn count(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// A portal that lived with the specification's schema, and a copy of its rows.
async fn portal() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::platform().await;
    let mut connection = database.database.connect(Login::Owner).await.unwrap();
    for sql in [PORTAL, SPECIFICATION, LIFE] {
        run(&mut connection, sql).await;
    }
    run(
        &mut connection,
        "create schema former;
         create table former.chat_sessions as table chat_sessions;
         create table former.chat_messages as table chat_messages;
         create table former.chat_typing_indicators as table chat_typing_indicators",
    )
    .await;
    (database, connection)
}

async fn adopted() -> (TestDatabase, PgConnection) {
    let (database, connection) = portal().await;
    Migrations::embedded().unwrap().apply(&database.database).await.unwrap();
    (database, connection)
}

/// What somebody gets who starts a chat as the portal does.
async fn start(connection: &mut PgConnection, customer: Uuid) -> (Uuid, String) {
    sqlx::query(
        "insert into chat_sessions (customer_id, customer_name, customer_email, status)
         values ($1, 'Guest User', 'guest@example.com', 'waiting')
         returning id, session_number",
    )
    .bind(customer)
    .fetch_one(connection)
    .await
    .map(|row| (row.get(0), row.get(1)))
    .unwrap()
}

async fn become_user(connection: &mut PgConnection, user: Uuid) {
    let claims = serde_json::json!({ "sub": user, "role": "authenticated" }).to_string();
    sqlx::query("select set_config('role', 'authenticated', false), set_config('request.jwt.claims', $1, false)")
        .bind(claims)
        .execute(connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn no_row_and_no_text_is_lost() {
    let (_database, mut connection) = adopted().await;
    for (what, lost) in [
        (
            "sessions",
            "select count(*) from former.chat_sessions as f
             left join chat_sessions as s using (id)
             where (s.session_number, s.customer_id, s.customer_name, s.customer_email, s.tenant_id) is distinct from
                   (f.session_number, f.customer_id, f.customer_name, f.customer_email, f.tenant_id)
                or (s.page_url, s.metadata, s.rating, s.order_number) is distinct from
                   (f.page_url, f.metadata, f.rating, f.order_number)",
        ),
        (
            "messages",
            "select count(*) from former.chat_messages as f
             left join chat_messages as m using (id)
             where (m.message, m.message_type, m.sender_id, m.sender_type, m.is_read, m.metadata) is distinct from
                   (f.message, f.message_type, f.sender_id, f.sender_type, f.is_read, f.metadata)",
        ),
        (
            "typing",
            "select count(*) from former.chat_typing_indicators as f
             left join chat_typing_indicators as t using (id, session_id, user_id, is_typing)
             where t.id is null",
        ),
        (
            "the portal's own",
            "select (select count(*) from former.chat_sessions) - count(*)
             from follow_ups as f
             join open_chats as s on s.id = f.session_id and s.about_an_order",
        ),
        (
            "the portal's foreign keys and triggers",
            "select 3 - (select count(*) from pg_constraint
                         where conname in ('portal_profile', 'follow_ups_session_id_fkey'))
                      - (select count(*) from pg_trigger where tgname = 'portal_hook')",
        ),
    ] {
        assert_eq!(count(&mut connection, lost).await, 0, "{what}");
    }
}

/// Fails with what differs from a new database.
async fn assert_shape(connection: &mut PgConnection) {
    let fresh = TestDatabase::new().await;
    let mut other = fresh.database.connect(Login::Owner).await.unwrap();
    let theirs: Vec<String> = sqlx::query_scalar(CATALOGUE).fetch_all(connection).await.unwrap();
    let ours: Vec<String> = sqlx::query_scalar(CATALOGUE).fetch_all(&mut other).await.unwrap();
    let missing: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).collect();
    let more: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
    assert!(ours.len() > 300, "{ours:#?}");
    assert!(
        missing.is_empty() && more.is_empty(),
        "missing {missing:#?}\nmore {more:#?}"
    );
}

#[tokio::test]
async fn the_catalogue_is_a_new_databases() {
    let (_database, mut connection) = adopted().await;
    assert_shape(&mut connection).await;
}

#[tokio::test]
async fn what_was_changed_by_hand_is_brought_back() {
    let (database, mut connection) = portal().await;
    run(&mut connection, BY_HAND).await;
    Migrations::embedded().unwrap().apply(&database.database).await.unwrap();
    assert_shape(&mut connection).await;
    for (what, wrong) in [
        (
            "a number that was given out twice is noted where it was replaced",
            "select 2 - count(*) from chat_sessions where metadata ->> 'former_number' = 'CHAT-10000000'",
        ),
        (
            "an account that is gone is nobody's",
            "select count(customer_id) from chat_sessions where order_number = '16'",
        ),
        (
            "of several rows of one person the latest stays",
            "select count(*) from chat_typing_indicators where is_typing",
        ),
        ("reconcile finds nothing", "select chat.reconcile()"),
    ] {
        assert_eq!(count(&mut connection, wrong).await, 0, "{what}");
    }
}

#[tokio::test]
async fn who_waits_is_in_line_and_who_is_served_holds_a_seat() {
    let (_database, mut connection) = adopted().await;
    let states: Vec<(String, String)> = sqlx::query_as(
        "select s.order_number, concat_ws(
           ' ', s.status, case when s.agent_id is not null then 'agent ' || ltrim(right(s.agent_id::text, 2), '0') end,
           (select 'in line' from chat.queue as q where q.session_id = s.id and q.left_at is null),
           (select 'seated' from chat.assignments as a
            where a.session_id = s.id and a.agent_id = s.agent_id and a.released_at is null)
         )
         from chat_sessions as s
         order by s.order_number::int",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let states: Vec<_> = states.iter().map(|(n, state)| (n.as_str(), state.as_str())).collect();
    assert_eq!(
        states,
        [
            ("1", "waiting in line"),
            ("2", "active agent 1 seated"),
            ("3", "ended"),
            ("4", "ended agent 1"),
            ("5", "active agent 1 seated"),
            ("6", "waiting in line"),
            ("7", "ended agent 1"),
            ("8", "transferred agent 2"),
            ("9", "active agent 3 seated"),
            ("10", "waiting in line"),
            ("11", "ended agent 1"),
            ("12", "abandoned"),
            ("13", "abandoned agent 2"),
            ("14", "waiting in line"),
            ("15", "active agent 1 seated"),
            ("16", "active agent 1 seated"),
            ("17", "active agent 1 seated"),
            ("18", "active agent 1 seated"),
            ("19", "ended"),
            ("20", "waiting in line"),
        ]
    );

    let load: (i32, i32) = sqlx::query_as("select load, capacity from chat.agents where user_id = $1")
        .bind(person(1))
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(load, (6, 5), "more than his seats, and then only fewer");
    for (what, wrong) in [
        ("reconcile finds nothing", "select chat.reconcile()"),
        ("agents keep whom they have", "select count(chat.requeue_unanswered())"),
        ("nobody is idle", "select count(chat.end_idle())"),
        (
            "sessions have a queue",
            "select count(*) from chat_sessions where queue_id is null",
        ),
        (
            "counters are true",
            "select count(*) from chat_sessions as s
             where s.messages_count is distinct from (
               select count(*) from chat_messages as m where m.session_id = s.id
             )",
        ),
        (
            "who is gone has gone at a time, and no other has",
            "select count(*) from chat_sessions as s
             where (s.status in ('waiting', 'active')) <> (s.ended_at is null) or s.ended_at > now()
               or s.ended_at < s.started_at or not isfinite(s.started_at) or s.updated_at is null",
        ),
        (
            "measures are none below nothing",
            "select count(*) from chat_sessions as s
             where s.wait_time_seconds < 0 or s.chat_duration_seconds < 0
               or s.ended_at is not null and s.chat_duration_seconds is null",
        ),
        (
            "order is that of the times",
            "select count(*) from chat_messages as a
             join chat_messages as b on b.created_at > a.created_at and b.seq <= a.seq
             where isfinite((select f.created_at from former.chat_messages as f where f.id = a.id))
               and isfinite((select f.created_at from former.chat_messages as f where f.id = b.id))",
        ),
        (
            "nothing is left over",
            "select count(*) from pg_class where oid = to_regclass('chat.adopted_sessions')",
        ),
    ] {
        assert_eq!(count(&mut connection, wrong).await, 0, "{what}");
    }
}

#[tokio::test]
async fn the_portals_life_goes_on() {
    let (_database, mut connection) = adopted().await;
    become_user(&mut connection, person(20)).await;
    let (id, number) = start(&mut connection, person(20)).await;
    assert_eq!(number, "CHAT-10000001", "after the highest that was given out");
    for statement in [
        "insert into chat_messages (session_id, sender_id, sender_type, message) values ($1, $2, 'customer', 'hello')",
        "insert into chat_typing_indicators (session_id, user_id, is_typing, updated_at) values ($1, $2, true, now())
         on conflict (session_id, user_id) do update set is_typing = true, updated_at = now()",
        "update chat_sessions set status = 'ended', ended_at = now(), rating = 5 where id = $1 and customer_id = $2",
    ] {
        let done = sqlx::query(statement)
            .bind(id)
            .bind(person(20))
            .execute(&mut connection)
            .await
            .unwrap();
        assert_eq!(done.rows_affected(), 1, "{statement}");
    }

    // in sessions that were there before: a long address, heavy metadata, blank and long texts
    for (customer, session) in [(5_u32, "2"), (9, "9")] {
        become_user(&mut connection, person(customer)).await;
        for statement in [
            "insert into chat_messages (session_id, sender_id, sender_type, message)
             select id, $1, 'customer', 'still there' from chat_sessions where order_number = $2",
            "insert into chat_typing_indicators (session_id, user_id, is_typing, updated_at)
             select id, $1, true, now() from chat_sessions where order_number = $2
             on conflict (session_id, user_id) do update set is_typing = true, updated_at = now()",
        ] {
            sqlx::query(statement)
                .bind(person(customer))
                .bind(session)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        let typing: bool = sqlx::query_scalar("select is_typing from chat_typing_indicators where user_id = $1")
            .bind(person(customer))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert!(typing);
    }
    become_user(&mut connection, person(1)).await;
    let read = sqlx::query("update chat_messages set is_read = true where sender_id = $1")
        .bind(person(5))
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(
        read.rows_affected(),
        4,
        "blank and long ones as well; one was read before"
    );
    let ended = sqlx::query("update chat_sessions set status = 'ended' where agent_id = $1 and status = 'active'")
        .bind(person(1))
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(ended.rows_affected(), 6);

    // limits hold for what is new
    let refused = sqlx::query(
        "insert into chat_messages (session_id, sender_id, sender_type, message)
         select id, $1, 'agent', repeat('x', 4001) from chat_sessions where agent_id = $1 limit 1",
    )
    .bind(person(1))
    .execute(&mut connection)
    .await
    .unwrap_err();
    assert_eq!(
        refused.as_database_error().unwrap().constraint(),
        Some("chat_messages_length")
    );
}

#[tokio::test]
async fn holes_and_old_rights_are_closed() {
    let (_database, mut connection) = adopted().await;
    become_user(&mut connection, person(20)).await;
    assert_eq!(count(&mut connection, "select count(*) from chat_sessions").await, 0);
    let forged = sqlx::query(
        "insert into chat_messages (session_id, sender_id, sender_type, message)
         values ('10000000-0000-0000-0000-000000000002', $1, 'agent', 'send me your password')",
    )
    .bind(person(20))
    .execute(&mut connection)
    .await;
    assert!(forged.is_err());
    connection.execute("set role anon").await.unwrap();
    for statement in ["select from chat_sessions", "select nextval('chat_session_number_seq')"] {
        assert!(connection.execute(statement).await.is_err(), "{statement}");
    }
    connection.execute("reset role").await.unwrap();
    let published = count(
        &mut connection,
        "select count(*) from pg_publication_tables
         where pubname = 'supabase_realtime' and tablename like 'chat\\_%'",
    )
    .await;
    assert!(published >= 3);
}

#[tokio::test]
async fn tables_of_another_owner_are_refused_with_the_remedy() {
    let (database, mut connection) = portal().await;
    let mut admin = database.database.connect(Login::Admin).await.unwrap();
    run(
        &mut admin,
        "alter table chat_messages owner to supabase_admin;
         alter function generate_chat_session_number() owner to supabase_admin",
    )
    .await;
    let migrations = Migrations::embedded().unwrap();
    let error = migrations.apply(&database.database).await.unwrap_err().to_string();
    assert!(
        error.contains("public.chat_messages of supabase_admin")
            && error.contains("alter table public.chat_messages owner to postgres;"),
        "{error}"
    );

    // what the error says is all there is to do
    let remedy = error.split("superuser: ").nth(1).unwrap();
    let remedy = remedy.split(" Then migrate").next().unwrap();
    run(&mut admin, remedy).await;
    migrations.apply(&database.database).await.unwrap();
    assert_eq!(count(&mut connection, "select chat.reconcile()").await, 0);
}

#[tokio::test]
async fn a_schema_without_rows_is_adopted_too() {
    let database = TestDatabase::platform().await;
    let mut connection = database.database.connect(Login::Owner).await.unwrap();
    for sql in [PORTAL, SPECIFICATION] {
        run(&mut connection, sql).await;
    }
    let migrations = Migrations::embedded().unwrap();
    migrations.apply(&database.database).await.unwrap();
    let standings = migrations.status(&database.database).await.unwrap();
    assert!(standings.iter().all(|standing| standing.state == State::Applied));
    run(
        &mut connection,
        "insert into auth.users (id, aud, role, email)
         values ('00000000-0000-0000-0000-000000000001', 'authenticated', 'authenticated', 'one@example.com')",
    )
    .await;
    become_user(&mut connection, person(1)).await;
    assert_eq!(start(&mut connection, person(1)).await.1, "CHAT-00000001");
}
