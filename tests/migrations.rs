//! The schema's mover on real databases: one ledger with the Supabase CLI, nothing half done, nothing twice.

use std::fs;

use sqlx::{Connection, Executor, PgConnection, Row};
use switchboard::db::{
    Login,
    migrations::{Error, Migrations, State},
};
use tempfile::TempDir;

use crate::support::cluster::TestDatabase;

/// A project's `supabase/migrations`.
struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, sql)| folder.write(name, sql));
        folder
    }

    fn write(&self, name: &str, sql: &str) {
        fs::write(self.0.path().join(name), sql).unwrap();
    }

    fn read(&self) -> Migrations {
        Migrations::read(self.0.path()).unwrap()
    }
}

const ROOMS: (&str, &str) = (
    "20260101000000_rooms.sql",
    "create table rooms (id int primary key);\n\ncreate function one() returns int language sql as $$ select 1; $$;\n",
);
const SEATS: (&str, &str) = (
    "20260102000000_seats.sql",
    "create table seats (room int references rooms);\n",
);

async fn versions(connection: &mut PgConnection) -> Vec<(String, String)> {
    connection
        .fetch_all("select version, name from supabase_migrations.schema_migrations order by version")
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

async fn states(migrations: &Migrations, database: &TestDatabase) -> Vec<State> {
    let standings = migrations.status(&database.database).await.unwrap();
    standings.iter().map(|standing| standing.state).collect()
}

#[tokio::test]
async fn our_own_migrations_apply_to_a_bare_platform_as_its_unprivileged_owner() {
    let database = TestDatabase::platform().await;
    let migrations = Migrations::embedded().unwrap();
    let pending = migrations.status(&database.database).await.unwrap();
    let applied = migrations.apply(&database.database).await.unwrap();
    assert_eq!(applied.len(), pending.len());
    assert!(
        migrations.apply(&database.database).await.unwrap().is_empty(),
        "nothing is applied twice"
    );
    let mut connection = database.database.connect(Login::Owner).await.unwrap();
    let superuser: bool = sqlx::query_scalar("select current_setting('is_superuser')::bool")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!superuser);
}

#[tokio::test]
async fn the_ledger_is_the_supabase_clis() {
    let database = TestDatabase::platform().await;
    let folder = Folder::new(&[ROOMS, SEATS]);
    assert_eq!(
        states(&folder.read(), &database).await,
        [State::Pending, State::Pending]
    );
    let applied = folder.read().apply(&database.database).await.unwrap();
    assert_eq!(applied, ["20260101000000_rooms", "20260102000000_seats"]);
    let mut connection = database.database.connect(Login::Owner).await.unwrap();
    let ledger = versions(&mut connection).await;
    assert_eq!(ledger[0], ("20260101000000".into(), "rooms".into()));
    assert_eq!(ledger.len(), 2);
    let others: i64 = sqlx::query_scalar("select count(*) from pg_class where relname like 'refinery%'")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(others, 0, "there is no second ledger");
    assert_eq!(
        states(&folder.read(), &database).await,
        [State::Applied, State::Applied]
    );
}

#[tokio::test]
async fn what_the_cli_moved_is_moved() {
    let database = TestDatabase::platform().await;
    let mut connection = database.database.connect(Login::Owner).await.unwrap();
    // As `supabase migration up` leaves it: split at semicolons, trimmed.
    for statement in [
        ROOMS.1,
        "create schema supabase_migrations",
        "create table supabase_migrations.schema_migrations (version text primary key, statements text[], name text)",
        "insert into supabase_migrations.schema_migrations values ('20260101000000', array[
           'create table rooms (id int primary key)',
           'create function one() returns int language sql as $$ select 1; $$'
         ], 'rooms')",
    ] {
        connection
            .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statement)))
            .await
            .unwrap();
    }
    let folder = Folder::new(&[ROOMS, SEATS]);
    assert_eq!(
        states(&folder.read(), &database).await,
        [State::Applied, State::Pending]
    );
    assert_eq!(
        folder.read().apply(&database.database).await.unwrap(),
        ["20260102000000_seats"]
    );
}

#[tokio::test]
async fn a_failing_migration_leaves_nothing_and_says_where() {
    let database = TestDatabase::platform().await;
    let folder = Folder::new(&[
        ROOMS,
        (
            "20260102000000_bad.sql",
            "create table half ();\n\nselect * from nowhere;\n",
        ),
    ]);
    let error = folder.read().apply(&database.database).await.unwrap_err();
    let words = error.to_string();
    assert!(matches!(error, Error::Failed(_)), "{words}");
    assert!(
        words.contains("20260102000000_bad, line 3") && words.contains("\"nowhere\""),
        "{words}"
    );
    let mut connection = database.database.connect(Login::Owner).await.unwrap();
    assert_eq!(versions(&mut connection).await.len(), 1, "the one before stays");
    let half: bool = sqlx::query_scalar("select to_regclass('half') is not null")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!half);
}

#[tokio::test]
async fn history_is_not_rewritten() {
    let database = TestDatabase::platform().await;
    let folder = Folder::new(&[ROOMS, SEATS]);
    folder.read().apply(&database.database).await.unwrap();

    folder.write(SEATS.0, "create table seats (room int);");
    assert_eq!(
        states(&folder.read(), &database).await,
        [State::Applied, State::Changed]
    );
    let error = folder.read().apply(&database.database).await.unwrap_err().to_string();
    assert!(error.contains("20260102000000 was changed"), "{error}");

    folder.write(SEATS.0, SEATS.1);
    folder.write("20260101120000_late.sql", "select 1;");
    assert_eq!(
        states(&folder.read(), &database).await,
        [State::Applied, State::Skipped, State::Applied]
    );
    let error = folder.read().apply(&database.database).await.unwrap_err().to_string();
    assert!(error.contains("20260101120000_late is not applied"), "{error}");

    let older = Folder::new(&[ROOMS]).read();
    assert_eq!(states(&older, &database).await, [State::Applied, State::Unknown]);
    let error = older.apply(&database.database).await.unwrap_err().to_string();
    assert!(error.contains("20260102000000_seats, which is unknown here"), "{error}");
}

/// What `ROOMS` might become: the same where it ran, and it ran twice.
const ROOMS_REPLACED: &str = "-- Rooms.
-- replaces sha256:5d09382dee600152356da629f5e1bda868f44b7c5d3fc1cbb2f8d0765098f4fa

create table if not exists rooms (id int primary key);

create or replace function one() returns int language sql as $$ select 1; $$;
";

#[tokio::test]
async fn a_text_may_replace_the_one_it_names_and_no_other() {
    for by_the_cli in [false, true] {
        let database = TestDatabase::platform().await;
        let folder = Folder::new(&[ROOMS, SEATS]);
        Folder::new(&[ROOMS]).read().apply(&database.database).await.unwrap();
        let mut connection = database.database.connect(Login::Owner).await.unwrap();
        if by_the_cli {
            // As `supabase migration up` leaves it: split at semicolons, trimmed.
            connection
                .execute(
                    "update supabase_migrations.schema_migrations set statements = array[
                       'create table rooms (id int primary key)',
                       'create function one() returns int language sql as $$ select 1; $$'
                     ]",
                )
                .await
                .unwrap();
        }

        folder.write(ROOMS.0, ROOMS_REPLACED);
        assert_eq!(
            states(&folder.read(), &database).await,
            [State::Applied, State::Pending]
        );
        assert_eq!(
            folder.read().apply(&database.database).await.unwrap(),
            ["20260102000000_seats"],
            "what ran does not run again"
        );
        connection
            .execute("update supabase_migrations.schema_migrations set statements[1] = 'create table rooms ()'")
            .await
            .unwrap();
        assert_eq!(states(&folder.read(), &database).await[0], State::Changed);
        let error = folder.read().apply(&database.database).await.unwrap_err().to_string();
        assert!(error.contains("20260101000000 was changed"), "{error}");
    }
}

#[tokio::test]
async fn two_movers_at_once_move_once() {
    let database = TestDatabase::platform().await;
    let migrations = Folder::new(&[ROOMS, SEATS]).read();
    let (one, other) = tokio::join!(
        migrations.apply(&database.database),
        migrations.apply(&database.database)
    );
    assert_eq!(one.unwrap().len() + other.unwrap().len(), 2);
}

#[tokio::test]
async fn settings_of_one_migration_do_not_reach_the_next() {
    let database = TestDatabase::platform().await;
    let folder = Folder::new(&[
        (
            "20260101000000_elsewhere.sql",
            "create schema elsewhere; set search_path = elsewhere;",
        ),
        ("20260102000000_here.sql", "create table here ();"),
    ]);
    folder.read().apply(&database.database).await.unwrap();
    let mut connection = database.database.connect(Login::Owner).await.unwrap();
    let found: bool = sqlx::query_scalar("select to_regclass('public.here') is not null")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(found);
    connection.close().await.unwrap();
}

#[tokio::test]
async fn looking_changes_nothing() {
    let database = TestDatabase::platform().await;
    Folder::new(&[ROOMS]).read().status(&database.database).await.unwrap();
    let mut connection = database.database.connect(Login::Owner).await.unwrap();
    let made: bool = sqlx::query_scalar("select to_regnamespace('supabase_migrations') is not null")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!made);
}
