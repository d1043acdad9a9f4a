//! `migrate` and `status`, on databases and instances that are there.

use std::{fs, path::Path, process::Output};

use nix::sys::signal::Signal;
use serde_json::Value;
use switchboard::db::Login;

use crate::support::{
    cluster::TestDatabase,
    serve::{Home, switchboard},
    until,
};

fn migrate(arguments: &[&str], url: &str, folder: &Path) -> Output {
    switchboard()
        .arg("migrate")
        .args(arguments)
        .args(["--database-url", url, "--dir"])
        .arg(folder)
        .output()
        .unwrap()
}

fn words(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn migrations_are_applied_and_told() {
    let database = TestDatabase::platform().await;
    let url = database.url("postgres");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, sql: &str| fs::write(folder.path().join(name), sql).unwrap();
    write("20260101000000_rooms.sql", "create table rooms (id int primary key);\n");
    write("20260102000000_seats.sql", "create table seats (id int primary key);\n");

    let first = migrate(&["up"], &url, folder.path());
    assert!(first.status.success(), "{}", words(&first.stderr));
    assert_eq!(
        words(&first.stdout).lines().collect::<Vec<_>>(),
        ["20260101000000_rooms", "20260102000000_seats"]
    );
    assert!(words(&first.stderr).ends_with("2 migrations applied\n"));
    let again = migrate(&["up"], &url, folder.path());
    assert_eq!((words(&again.stdout), words(&again.stderr)), ("", "nothing to apply\n"));

    write("20260103000000_doors.sql", "create table doors (id int primary key);\n");
    let waiting = migrate(&["status"], &url, folder.path());
    assert!(waiting.status.success(), "what is pending is no fault");
    let table: Vec<Vec<&str>> = words(&waiting.stdout)
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(table[0], ["VERSION", "STATE", "NAME"]);
    assert_eq!(table[1], ["20260101000000", "applied", "rooms"]);
    assert_eq!(table[3], ["20260103000000", "pending", "doors"]);
    let third = migrate(&["up"], &url, folder.path());
    assert!(words(&third.stderr).ends_with("\n1 migration applied\n"));
    let doors: i64 = sqlx::query_scalar("select count(*) from doors")
        .fetch_one(&database.pool(Login::Owner))
        .await
        .unwrap();
    assert_eq!(doors, 0);
}

#[tokio::test]
async fn what_has_parted_is_an_error() {
    let database = TestDatabase::platform().await;
    let url = database.url("postgres");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, sql: &str| fs::write(folder.path().join(name), sql).unwrap();
    write("20260101000000_rooms.sql", "create table rooms (id int primary key);\n");
    write("20260103000000_doors.sql", "create table doors (id int primary key);\n");
    assert!(migrate(&["up"], &url, folder.path()).status.success());

    write(
        "20260101000000_rooms.sql",
        "create table rooms (id bigint primary key);\n",
    );
    write("20260102000000_seats.sql", "create table seats (id int primary key);\n");
    fs::remove_file(folder.path().join("20260103000000_doors.sql")).unwrap();
    let status = migrate(&["status", "-o", "json"], &url, folder.path());
    assert_eq!(status.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&status.stdout).unwrap();
    let states: Vec<_> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|each| (each["name"].as_str().unwrap(), each["state"].as_str().unwrap()))
        .collect();
    assert_eq!(
        states,
        [("rooms", "changed"), ("seats", "skipped"), ("doors", "unknown")]
    );
    assert!(
        words(&status.stderr).contains("have parted (3 of 3)"),
        "{}",
        words(&status.stderr)
    );
    let table = migrate(&["status"], &url, folder.path());
    for state in ["changed", "skipped", "unknown"] {
        assert!(words(&table.stdout).contains(state), "{}", words(&table.stdout));
    }
    assert_eq!(migrate(&["up"], &url, folder.path()).status.code(), Some(1));
}

#[tokio::test]
async fn the_serve_that_runs_here_is_the_one_to_migrate() {
    let home = Home::new();
    let serve = home.serve().await;
    let status = || {
        switchboard()
            .args(["migrate", "status", "-o", "json", "--data-dir"])
            .arg(home.data_dir())
            .output()
            .unwrap()
    };
    let output = status();
    assert!(output.status.success(), "{}", words(&output.stderr));
    let told: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!told.is_empty() && told.iter().all(|each| each["state"] == "applied"));
    serve.stop().await;
    let output = status();
    assert_eq!(output.status.code(), Some(1));
    assert!(words(&output.stderr).contains("no --database-url is given"));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_warns_of_a_part_that_does_not_work() {
    let home = Home::new();
    let serve = home.serve().await;
    let mut admin = sqlx::PgPool::connect(&home.values()["DB_URL"])
        .await
        .unwrap()
        .acquire()
        .await
        .unwrap();
    sqlx::query("alter table public.chat_sessions rename to chat_sessions_away")
        .execute(&mut *admin)
        .await
        .unwrap();
    until("status warns of the worker", async || {
        let output = home.status();
        output.status.success() && words(&output.stderr).contains("not everything works (worker: ")
    })
    .await;
    assert!(home.values()["API_URL"].starts_with("http://"), "what it knows is told");
    drop(admin);
    serve.stop().await;
}

#[tokio::test]
async fn a_serve_that_was_killed_does_not_answer_for_itself() {
    let home = Home::new();
    let mut serve = home.serve().await;
    serve.signal(Signal::SIGKILL);
    serve.ended().await;
    let output = home.status();
    assert_eq!(output.status.code(), Some(1));
    let said = words(&output.stderr);
    assert!(
        said.contains("does not answer at") || said.contains("no `switchboard serve` runs on"),
        "{said}"
    );
}
