//! What is remembered ends with the rows, policies, functions, rights and roles that it rests on.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, raw_sql};
use switchboard::db::Login;
use uuid::Uuid;

use super::listener::{Listener, alone, checks};
use crate::support::{app::App, cluster::TestDatabase, until};

/// Notes are for the members of their team, marks for everybody.
const TABLES: &str = "
    create table notes (id bigint primary key, team int not null);
    create table marks (id bigint primary key);
    create table members (team int, person uuid, since int, primary key (team, person));
    create schema private;
    grant usage on schema private to authenticated;
    create function private.is_member(wanted int) returns boolean language sql stable set search_path = ''
      begin atomic
        select exists (select from public.members as m where m.team = wanted and m.person = auth.uid() and m.since >= 0);
      end;
    alter table notes enable row level security;
    create policy of_teams on notes to authenticated using (private.is_member(team));
    alter publication supabase_realtime add table notes, marks;
";

/// A member of team 1 who listens.
struct Desk {
    app: App,
    pool: PgPool,
    admin: PgPool,
    member: Uuid,
    listener: Listener,
    last: i64,
}

impl Desk {
    async fn new() -> Self {
        let database = TestDatabase::platform().await;
        let (pool, admin) = (database.pool(Login::Owner), database.pool(Login::Admin));
        raw_sql(TABLES).execute(&pool).await.unwrap();
        let member = Uuid::new_v4();
        sqlx::query("insert into members values (1, $1, 0)")
            .bind(member)
            .execute(&pool)
            .await
            .unwrap();
        let app = App::on(database).await;
        let listener = Listener::new(&app, "*", json!({ "role": "authenticated", "sub": member })).await;
        Self {
            app,
            pool,
            admin,
            member,
            listener,
            last: 0,
        }
    }

    async fn run(&self, sql: &str) {
        raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    async fn administer(&self, sql: &str) {
        raw_sql(AssertSqlSafe(sql)).execute(&self.admin).await.unwrap();
    }

    /// Whether a note of team 1 that is written now is shown to the member.
    async fn shows(&mut self) -> bool {
        self.last += 2;
        let mut transaction = self.pool.begin().await.unwrap();
        for (sql, id) in [
            ("insert into notes (id, team) values ($1, 1)", self.last - 1),
            ("insert into marks values ($1)", self.last),
        ] {
            sqlx::query(sql).bind(id).execute(&mut *transaction).await.unwrap();
        }
        transaction.commit().await.unwrap();
        self.listener.hears(self.last).await;
        self.listener.has(self.last - 1)
    }

    /// Waits until the answer to [`Desk::shows`] is remembered.
    async fn settles(&mut self, shown: bool) {
        let (before, _) = checks(&self.app).await;
        until("an answer is remembered", async || {
            assert_eq!(self.shows().await, shown);
            checks(&self.app).await.0 > before + 2
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_what_an_answer_rests_on_is_noticed() {
    let _alone = alone().await;
    let mut desk = Desk::new().await;
    desk.settles(true).await;
    let member = desk.member;
    let function = "create or replace function private.is_member(wanted int) returns boolean language sql stable
         set search_path = '' begin atomic";
    let joined = format!("insert into members values (1, '{member}', 0)");
    let rewritten = format!("{function} select wanted = 2; end");
    let restored = format!(
        "{function} select exists (select from public.members as m where m.team = wanted and m.person = auth.uid()
         and m.since >= 0); end"
    );
    for (change, back) in [
        ("update members set since = -1", "update members set since = 0"),
        ("update members set team = 2", "update members set team = 1"),
        ("delete from members", joined.as_str()),
        ("truncate members", joined.as_str()),
        (
            "alter policy of_teams on notes using (team = 2)",
            "alter policy of_teams on notes using (private.is_member(team))",
        ),
        (
            "drop policy of_teams on notes",
            "create policy of_teams on notes to authenticated using (private.is_member(team))",
        ),
        (
            "create policy few on notes as restrictive using (team = 3)",
            "drop policy few on notes",
        ),
        (rewritten.as_str(), restored.as_str()),
        (
            "alter table members enable row level security",
            "alter table members disable row level security",
        ),
        (
            "revoke execute on function private.is_member(int) from public, anon, authenticated, service_role",
            "grant execute on function private.is_member(int) to public",
        ),
        (
            "revoke select on members from authenticated",
            "grant select on members to authenticated",
        ),
        (
            "alter policy of_teams on notes to service_role",
            "alter policy of_teams on notes to authenticated",
        ),
    ] {
        desk.run(change).await;
        // Not for one note, and neither once that is remembered.
        assert!(!desk.shows().await, "{change}");
        assert!(!desk.shows().await, "{change}");
        desk.run(back).await;
        assert!(desk.shows().await, "{back}");
        desk.settles(true).await;
    }
    // Where triggers are off, as while a dump is restored.
    desk.administer("set session_replication_role = replica; alter policy of_teams on notes using (team = 2)")
        .await;
    assert!(!desk.shows().await);
    desk.run("alter policy of_teams on notes using (private.is_member(team))")
        .await;
    desk.settles(true).await;

    // Nothing in the stream tells of roles: they are looked at each second.
    desk.administer(
        "create role definitions_team;
         create role definitions_caller;
         grant definitions_caller to authenticator;
         grant usage on schema private, auth to definitions_caller;
         grant select on notes, members, marks to definitions_caller;
         alter policy of_teams on notes to definitions_team;",
    )
    .await;
    desk.listener = Listener::new(&desk.app, "*", json!({ "role": "definitions_caller", "sub": member })).await;
    desk.settles(false).await;
    for (change, shown) in [
        ("grant definitions_team to definitions_caller", true),
        ("revoke definitions_team from definitions_caller", false),
        ("alter role definitions_caller bypassrls", true),
        ("alter role definitions_caller nobypassrls", false),
        // Its owner is not held by a table's policies.
        (
            "alter table notes owner to definitions_team; reassign owned by definitions_team to definitions_caller",
            true,
        ),
        ("reassign owned by definitions_caller to postgres", false),
    ] {
        desk.administer(change).await;
        until(change, async || desk.shows().await == shown).await;
    }
    desk.administer(
        "alter policy of_teams on notes to authenticated;
         drop owned by definitions_caller;
         drop role definitions_caller, definitions_team;",
    )
    .await;
    desk.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_too_large_to_hold_is_judged_as_of_its_end() {
    let _alone = alone().await;
    let mut desk = Desk::new().await;
    desk.settles(true).await;
    // Its first notes are for the team, and its last change says who that is.
    let (first, member) = (desk.last + 1_000, desk.member);
    let notes = |from: i64| {
        format!(
            "insert into notes (id, team)
             select {from} + n, case when n <= 10 then 1 else 2 end from generate_series(1, 9000) as n"
        )
    };
    let heard = |desk: &Desk| {
        desk.listener
            .heard()
            .iter()
            .filter(|row| row["id"].as_i64() > Some(first))
            .count()
    };
    desk.run(&format!("begin; {}; delete from members; commit;", notes(first)))
        .await;
    assert!(!desk.shows().await);
    assert_eq!(heard(&desk), 0);
    desk.run(&format!(
        "begin; {}; insert into members values (1, '{member}', 0); commit;",
        notes(first + 10_000)
    ))
    .await;
    assert!(desk.shows().await);
    assert_eq!(heard(&desk), 10);
    desk.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_streamed_for_policies_alone_is_not_for_clients() {
    let _alone = alone().await;
    let mut desk = Desk::new().await;
    desk.settles(true).await;
    let everything = Listener::new(&desk.app, "*", json!({ "role": "service_role" })).await;
    desk.run("insert into members select 1, gen_random_uuid(), n from generate_series(1, 9) as n; update members set since = 10").await;
    assert!(desk.shows().await);
    everything.hears(desk.last).await;
    let members = |rows: &[Value]| rows.iter().filter(|row| row.get("since").is_some()).count();
    assert_eq!(members(&everything.heard()), 0);
    // As soon as they are published they are.
    desk.run(
        "alter publication supabase_realtime add table members; insert into members values (3, gen_random_uuid(), 3)",
    )
    .await;
    assert!(desk.shows().await);
    everything.hears(desk.last).await;
    assert_eq!(members(&everything.heard()), 1);
    // And not again: still the stream goes on, where it would end if one publication contradicted the other.
    desk.administer("alter publication supabase_realtime set table notes, marks, members (team, person)")
        .await;
    desk.run("insert into members values (4, gen_random_uuid(), 4)").await;
    assert!(desk.shows().await);
    everything.hears(desk.last).await;
    desk.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_agree_in_what_is_read_share_answers() {
    let _alone = alone().await;
    let mut desk = Desk::new().await;
    desk.settles(true).await;
    // Another device of his, and somebody else.
    let claims = json!({ "role": "authenticated", "sub": desk.member, "session_id": "another" });
    let device = Listener::new(&desk.app, "*", claims).await;
    let stranger = Listener::new(
        &desk.app,
        "*",
        json!({ "role": "authenticated", "sub": Uuid::new_v4() }),
    )
    .await;
    let anonymous = Listener::new(&desk.app, "*", json!({ "role": "anon" })).await;
    let (_, before) = checks(&desk.app).await;
    for _ in 0..20 {
        assert!(desk.shows().await);
    }
    let shown = desk.last - 1;
    for listener in [&device, &stranger, &anonymous] {
        listener.hears(desk.last).await;
    }
    assert!(device.has(shown) && !stranger.has(shown) && !anonymous.has(shown));
    until("the checks of all four are counted", async || {
        let (remembered, _) = checks(&desk.app).await;
        remembered >= 60
    })
    .await;
    // The device not at all, the others once.
    let (_, after) = checks(&desk.app).await;
    assert!(after - before <= 2, "{} asked", after - before);
    desk.app.stop().await;
}
