//! `serve` on a database that is somebody else's.

use switchboard::db::{
    Login,
    platform::{self, Outcome},
};

use crate::support::{cluster::TestDatabase, serve::Home};

#[tokio::test]
async fn a_bare_database_becomes_a_supabase() {
    let (home, database) = (Home::new(), TestDatabase::empty().await);
    let mut command = home.command();
    command.args(["--database-url", &database.url("supabase_admin")]);
    let mut serve = home.spawn(command);
    serve.ready().await;
    assert!(!home.data_dir().join("pg").exists(), "no Postgres of our own");
    assert_eq!(home.values()["DB_URL"], database.url("supabase_admin"));
    assert!(
        !serve.said().contains(&home.values()["DB_URL"]),
        "it may hold a password"
    );
    serve.stop().await;
    assert_eq!(platform::apply(&database.database).await.unwrap(), Outcome::Current);
}

#[tokio::test]
async fn only_a_superuser_can_make_it_one() {
    let (home, database) = (Home::new(), TestDatabase::empty().await);
    let mut connection = database.database.connect(Login::Admin).await.unwrap();
    sqlx::raw_sql("create role somebody login").execute(&mut connection).await.unwrap();
    let mut command = home.command();
    let output = command
        .args(["--database-url", &database.url("somebody")])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("superuser"), "{words}");
}

#[tokio::test]
async fn a_supabase_projects_platform_is_left_alone() {
    let database = TestDatabase::empty().await;
    let mut connection = database.database.connect(Login::Admin).await.unwrap();
    sqlx::raw_sql("create schema auth; create table auth.users (id uuid primary key)")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(platform::apply(&database.database).await.unwrap(), Outcome::Foreign);
    let tables: i64 =
        sqlx::query_scalar("select count(*) from pg_tables where schemaname in ('auth', 'storage', 'realtime')")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn two_serves_may_share_a_database() {
    let (one, other, database) = (Home::new(), Home::new(), TestDatabase::new().await);
    let url = database.url("supabase_admin");
    let start = |home: &Home| {
        let mut command = home.command();
        // The same migrations, read from their folder.
        command.args([
            "--migrations-dir",
            concat!(env!("CARGO_MANIFEST_DIR"), "/supabase/migrations"),
        ]);
        command.args(["--database-url", &url]);
        home.spawn(command)
    };
    let (mut first, mut second) = (start(&one), start(&other));
    first.ready().await;
    second.ready().await;
    assert_ne!(one.values()["API_URL"], other.values()["API_URL"]);
    first.stop().await;
    second.stop().await;
}
