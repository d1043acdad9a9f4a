//! Which policies are understood completely, and what is known of those.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgPool, Row, postgres::types::Oid, raw_sql};
use switchboard::{
    db::Login,
    gateway::realtime::policy::{Claims, Policies, Policy},
};

use crate::support::cluster::TestDatabase;

/// What policies may read: rows of other tables, each with a primary key.
const TABLES: &str = "
    create table public.docs (id int primary key, team int, owner uuid, note text, at timestamptz, visible boolean);
    create table public.teams (id int primary key, lead uuid, name text);
    create table public.members (team int, person uuid, grade text, primary key (team, person));
    create table public.loose (team int);
    create table public.whole (team int, person uuid);
    alter table public.whole replica identity full;
    create unlogged table public.quick (team int primary key);
    create table public.parted (team int primary key) partition by range (team);
    create table public.part partition of public.parted for values from (0) to (9);
    create table public.parent (team int primary key);
    create table public.child (primary key (team)) inherits (public.parent);
    create table public.made (id int primary key, twice int generated always as (id * 2) stored);
    create view public.lookups as select team, person from public.members;
    create schema private;
    grant usage on schema private to authenticated;

    create function private.members() returns setof int language sql stable security definer set search_path = ''
      begin atomic select m.team from public.members as m where m.person = auth.uid(); end;
    create function private.is_member(wanted int) returns boolean language sql stable security definer set search_path = ''
      begin atomic select exists (select from public.members as m where m.team = wanted and m.person = auth.uid()); end;
    create function private.textual() returns boolean language sql stable as 'select true';
    create function private.immutable_text(a int) returns boolean language sql immutable as 'select true';
    create function private.procedural() returns boolean language plpgsql stable as 'begin return true; end';
    create function private.first_team() returns int language sql stable
      begin atomic select m.team from public.members as m where m.person = auth.uid(); end;
    create function private.two() returns boolean language sql stable
      begin atomic select true; select false; end;
    create function private.configured() returns boolean language sql stable set timezone = 'UTC'
      begin atomic select true; end;
    create function private.since(a int, t timestamptz default now()) returns boolean language sql stable
      begin atomic select t > '2000-01-01'; end;
    create function private.clock() returns boolean language sql stable begin atomic select now() > '2000-01-01'; end;

    grant usage on schema private to authenticated;
    alter table public.docs enable row level security;
    alter publication supabase_realtime add table public.docs;
";

struct Place {
    pool: PgPool,
    admin: PgPool,
}

impl Place {
    async fn new() -> Self {
        let database = TestDatabase::platform().await;
        let place = Self {
            pool: database.pool(Login::Owner),
            admin: database.pool(Login::Admin),
        };
        place.run(TABLES).await;
        place
    }

    async fn run(&self, sql: &str) {
        raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    async fn administer(&self, sql: &str) {
        raw_sql(AssertSqlSafe(sql)).execute(&self.admin).await.unwrap();
    }

    /// What is known, once what it names is in the publication.
    async fn policies(&self) -> Policies {
        let policies = read(&self.pool).await;
        for table in &policies.missing {
            self.administer(&format!("alter publication switchboard_policies add table {table}"))
                .await;
        }
        if policies.missing.is_empty() {
            policies
        } else {
            read(&self.pool).await
        }
    }

    /// Why docs are asked about with this policy alone, or what decides.
    async fn with(&self, using: &str) -> Result<Policy, String> {
        self.run(&format!(
            "drop policy if exists it on public.docs; create policy it on public.docs for select to authenticated using ({using})"
        ))
        .await;
        self.docs().await
    }

    async fn docs(&self) -> Result<Policy, String> {
        let policies = self.policies().await;
        let oid: Oid = sqlx::query_scalar("select 'public.docs'::regclass::oid")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        match policies.get(oid.0, "authenticated") {
            Some(policy) => Ok(Policy::clone(policy)),
            None => Err(policies
                .refused
                .iter()
                .map(|(_, reason)| reason.clone())
                .collect::<Vec<_>>()
                .join("; ")),
        }
    }

    async fn name(&self, table: u32) -> String {
        sqlx::query_scalar("select $1::regclass::text")
            .bind(Oid(table))
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Own columns, the tie, and sources with their columns and keys, in words.
    async fn words(&self, policy: &Policy) -> String {
        let mut sources = BTreeMap::new();
        for source in &policy.sources {
            let key = source.key.as_ref().map_or(String::new(), |key| format!(" by {key}"));
            sources.insert(
                self.name(source.table).await,
                format!("({}){key}", source.columns.join(" ")),
            );
        }
        let tie = policy
            .tie
            .map_or(String::new(), |tie| format!(" tied by {}", policy.columns[tie]));
        let sources: String = sources.iter().map(|(name, rest)| format!(", {name}{rest}")).collect();
        format!("{}{tie}{sources}", policy.columns.join(" "))
    }
}

async fn read(pool: &PgPool) -> Policies {
    let sql = include_str!("../../sql/gateway/realtime_policies.sql");
    let row = sqlx::query(sql).fetch_one(pool).await.unwrap();
    Policies::parse(row.get::<&str, _>(1)).unwrap()
}

fn claims(places: &[&[&str]]) -> Claims {
    let place = |place: &&[&str]| place.iter().map(|name| (*name).to_owned()).collect();
    Claims::At(places.iter().map(place).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_understood() {
    let place = Place::new().await;
    let (nobody, user): (Claims, Claims) = (claims(&[]), claims(&[&["sub"]]));
    for (using, words, claims) in [
        ("true", "", &nobody),
        ("visible and note <> 'secret'", "note visible", &nobody),
        ("owner = auth.uid()", "owner", &user),
        ("owner = (select auth.uid())", "owner", &user),
        (
            "exists (select 1 from members m where m.team = docs.team and m.person = auth.uid())",
            "team tied by team, members(team person) by team",
            &user,
        ),
        (
            "exists (select m.* from members m where m.team = docs.team and m.person = auth.uid() limit 1)",
            "team tied by team, members(team person) by team",
            &user,
        ),
        (
            "team in (select m.team from members m where m.person = (select auth.uid()))",
            "team tied by team, members(team person) by team",
            &user,
        ),
        // null does not equal anything, and hides what "not in" would show
        ("team in (select w.team from whole w)", "team, whole(team)", &nobody),
        (
            "auth.uid() in (select m.person from members m join teams t on t.id = m.team where t.id = docs.team)",
            "team tied by team, members(team person), teams(id) by id",
            &user,
        ),
        (
            "exists (select from members m left join teams t on t.id = m.team where t.id = docs.team)",
            "team, members(team), teams(id)",
            &nobody,
        ),
        (
            "exists (select from members m join teams t using (team_of)) or true"
                .replace("using (team_of)", "on t.id = m.team")
                .as_str(),
            ", members(team), teams(id)",
            &nobody,
        ),
        // tied here, not there
        (
            "exists (select from members m where m.team = docs.team) and exists (select from members n where n.grade = docs.note)",
            "team note, members(team grade)",
            &nobody,
        ),
        (
            "team = any (array(select m.team from members m))",
            "team, members(team)",
            &nobody,
        ),
        (
            "team in (select private.members())",
            "team, members(team person)",
            &user,
        ),
        (
            "private.is_member(team)",
            "team tied by team, members(team person) by team",
            &user,
        ),
        (
            "(auth.jwt() -> 'app' ->> 'team')::int = team",
            "team",
            &claims(&[&["app", "team"]]),
        ),
        (
            "(select auth.jwt() #>> '{app,team}') = note",
            "note",
            &claims(&[&["app", "team"]]),
        ),
        ("auth.jwt() is not null", "", &Claims::All),
        ("current_setting('request.jwt.claims', true) <> ''", "", &Claims::All),
        (
            "auth.role() = 'x' and auth.email() = note",
            "note",
            &claims(&[&["email"], &["role"]]),
        ),
        (
            "case when visible then true else coalesce(note, '') = any (array['a', 'b']) end",
            "note visible",
            &nobody,
        ),
    ] {
        let policy = place
            .with(using)
            .await
            .unwrap_or_else(|reason| panic!("{using}: {reason}"));
        assert_eq!(place.words(&policy).await, words, "{using}");
        assert_eq!(&policy.claims, claims, "{using}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_each_time() {
    let place = Place::new().await;
    for (using, reason) in [
        ("at < now()", "neither immutable nor written as begin atomic"),
        ("at < current_timestamp", "SQLVALUEFUNCTION"),
        (
            "at::date < '2030-01-01'",
            "neither immutable nor written as begin atomic",
        ),
        ("current_user = 'authenticated'", "SQLVALUEFUNCTION"),
        ("note = session_user", "SQLVALUEFUNCTION"),
        ("random() < 0.5", "neither immutable nor written as begin atomic"),
        ("current_setting('app.x', true) = note", "a setting"),
        ("current_setting('request.' || 'jwt.claims', true) = note", "a setting"),
        (
            "pg_has_role('x', 'member')",
            "neither immutable nor written as begin atomic",
        ),
        (
            "exists (select from lookups l where l.team = docs.team)",
            "not ordinary",
        ),
        ("exists (select from parted p where p.team = docs.team)", "not ordinary"),
        ("exists (select from part p where p.team = docs.team)", "not ordinary"),
        ("exists (select from parent p where p.team = docs.team)", "not ordinary"),
        ("exists (select from child p where p.team = docs.team)", "not ordinary"),
        ("exists (select from quick p where p.team = docs.team)", "not ordinary"),
        (
            "exists (select from pg_catalog.pg_class c where c.relname = docs.note)",
            "not ordinary",
        ),
        (
            "exists (select from loose l where l.team = docs.team)",
            "no replica identity",
        ),
        (
            "exists (select from made m where m.twice = docs.team)",
            "no replica identity",
        ),
        ("docs is not null", "a row as a whole"),
        ("to_jsonb(docs) ? 'note'", "a row as a whole"),
        (
            "exists (select from members m where m = row(1, null, null)::members)",
            "",
        ),
        ("ctid is not null", "system column"),
        ("private.textual()", "neither immutable nor written as begin atomic"),
        (
            "private.immutable_text(team)",
            "neither immutable nor written as begin atomic",
        ),
        ("private.procedural()", "neither immutable nor written as begin atomic"),
        ("private.first_team() = team", "may find several rows"),
        ("private.two()", "is not one query"),
        ("private.configured()", "settings of its own"),
        ("private.since(team)", "called with defaults"),
        (
            "private.clock()",
            "neither immutable nor written as begin atomic in private.clock",
        ),
        (
            "(select m.grade from members m limit 1) = note",
            "more than tables and conditions",
        ),
        (
            "(select count(*) from members m) > 1",
            "more than tables and conditions",
        ),
        (
            "team in (select m.team from members m union select t.id from teams t)",
            "more than tables and conditions",
        ),
        (
            "exists (with x as (select team from members) select from x where x.team = docs.team)",
            "more than tables and conditions",
        ),
        (
            "array_position(array(select m.team from members m), team) = 1",
            "more than tables and conditions",
        ),
        (
            "exists (select from members m tablesample system (50))",
            "unknown kind of table",
        ),
        ("(docs).note = 'x' or (row(team, note)).f1 = 1", "FIELDSELECT"),
    ] {
        let refused = place.with(using).await;
        let found = refused
            .as_ref()
            .err()
            .unwrap_or_else(|| panic!("{using} was understood: {refused:?}"));
        assert!(found.contains(reason), "{using}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_what_is_read_count_as_those_of_the_reader() {
    let place = Place::new().await;
    let by_members = "exists (select from members m where m.team = docs.team)";
    place.run("alter table members enable row level security").await;
    // None lets the role see a row: nothing else is read.
    let plain = place.words(&place.with(by_members).await.unwrap()).await;
    assert_eq!(plain, "team tied by team, members(team) by team");
    place
        .run("create policy own on members to authenticated using (person = auth.uid() and grade <> 'x')")
        .await;
    place
        .run("create policy others on members to anon using (now() is not null)")
        .await;
    let policy = place.docs().await.unwrap();
    assert_eq!(
        place.words(&policy).await,
        "team tied by team, members(team person grade) by team"
    );
    assert_eq!(policy.claims, claims(&[&["sub"]]));
    // A function that runs as the table's owner is not held by them.
    let policy = place.with("private.is_member(team)").await.unwrap();
    assert_eq!(
        place.words(&policy).await,
        "team tied by team, members(team person) by team"
    );
    // Unless they are forced upon him, and then as they are for him.
    let keeper = "policies_keeper";
    place
        .administer(&format!(
            "create role {keeper};
             alter function private.is_member(int) owner to {keeper};
             alter table members owner to {keeper}, force row level security;
             create policy everybody on members using (exists (select from teams t where t.id = members.team));"
        ))
        .await;
    let forced = place.docs().await;
    place
        .administer(&format!("reassign owned by {keeper} to postgres; drop role {keeper}"))
        .await;
    assert_eq!(
        place.words(&forced.unwrap()).await,
        "team tied by team, members(team person) by team, teams(id)"
    );
    // What is not understood there is not understood here.
    place.run("alter policy own on members using (now() is not null)").await;
    assert!(place.with(by_members).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched_is_asked_and_left_alone() {
    let place = Place::new().await;
    let by_members = "exists (select from members m where m.team = docs.team)";
    place.with(by_members).await.unwrap();
    let published = async || read(&place.pool).await;
    assert!(published().await.superfluous.is_empty());
    // Published to clients in part: together with a publication of the whole it would show them more, or stop the stream.
    for part in ["members (team, person)", "members where (team > 0)"] {
        place
            .administer("drop publication supabase_realtime; create publication supabase_realtime for table docs")
            .await;
        place
            .administer(&format!("alter publication supabase_realtime add table {part}"))
            .await;
        assert!(place.docs().await.unwrap_err().contains("published in part"));
        assert_eq!(published().await.superfluous.len(), 1, "{part}");
    }
    place
        .administer("alter publication supabase_realtime drop table members")
        .await;
    place.docs().await.unwrap();
    // Without an identity its writers would be refused.
    place.administer("alter table members replica identity nothing").await;
    assert!(place.docs().await.unwrap_err().contains("no replica identity"));
    assert_eq!(published().await.superfluous.len(), 1);
    place.administer("alter table members replica identity default").await;
    // Nor is anything known of it where what tells is switched off.
    place.docs().await.unwrap();
    for (off, on) in [
        (
            "alter event trigger switchboard_ddl disable",
            "alter event trigger switchboard_ddl enable always",
        ),
        (
            "alter publication switchboard_policies set (publish = 'insert, update')",
            "alter publication switchboard_policies set (publish = 'insert, update, delete, truncate')",
        ),
    ] {
        place.administer(off).await;
        assert!(place.docs().await.is_err(), "{off}");
        place.administer(on).await;
        place.docs().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chats_policies_are_understood() {
    let database = TestDatabase::new().await;
    let place = Place {
        pool: database.pool(Login::Owner),
        admin: database.pool(Login::Admin),
    };
    let policies = place.policies().await;
    assert!(policies.refused.is_empty(), "{:?}", policies.refused);
    let roles = "chat_queue_members(queue_id agent_id), chat_queues(id tenant_id), {}support_agents(user_id), \
                 user_roles(user_id role_name)";
    let sessions = "chat_sessions(id tenant_id customer_id agent_id status queue_id) by id, ";
    for (table, words) in [
        (
            "chat_sessions",
            format!(
                "tenant_id customer_id agent_id status queue_id, {}",
                roles.replace("{}", "")
            ),
        ),
        (
            "chat_messages",
            format!("session_id tied by session_id, {}", roles.replace("{}", sessions)),
        ),
        (
            "chat_typing_indicators",
            format!("session_id tied by session_id, {}", roles.replace("{}", sessions)),
        ),
    ] {
        let oid: Oid = sqlx::query_scalar("select $1::regclass::oid")
            .bind(table)
            .fetch_one(&place.pool)
            .await
            .unwrap();
        let policy = policies
            .get(oid.0, "authenticated")
            .unwrap_or_else(|| panic!("{table}"));
        assert_eq!(place.words(policy).await, words, "{table}");
        // Neither a device nor a refreshed token is another caller.
        assert_eq!(
            policy.claims,
            claims(&[&["app_metadata", "tenant_id"], &["sub"]]),
            "{table}"
        );
    }
}
