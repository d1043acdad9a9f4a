//! `serve` with a Postgres of its own: it comes up, keeps data, leaves nothing running, and survives being killed.

use std::{fs, net::TcpListener};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Uid,
};
use sqlx::{Connection, Executor, PgConnection};
use switchboard::postgres::{Durability, Server, Settings};
use tokio_util::sync::CancellationToken;

use crate::support::{
    serve::{Home, free_port, pretend_cluster, switchboard},
    until,
};

async fn connect(home: &Home) -> PgConnection {
    PgConnection::connect(&home.values()["DB_URL"]).await.unwrap()
}

async fn write_note(home: &Home, text: &str) {
    let mut connection = connect(home).await;
    connection
        .execute("create table if not exists notes (text text)")
        .await
        .unwrap();
    sqlx::query("insert into notes values ($1)")
        .bind(text)
        .execute(&mut connection)
        .await
        .unwrap();
}

async fn notes(home: &Home) -> Vec<String> {
    sqlx::query_scalar("select text from notes")
        .fetch_all(&mut connect(home).await)
        .await
        .unwrap()
}

/// Runs `serve` to an end it should come to by itself: its exit code and its words.
fn refused(mut command: std::process::Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn data_outlives_an_orderly_stop() {
    let home = Home::new();
    let serve = home.serve().await;
    let values = home.values();
    assert_eq!(values["API_URL"], serve.url);
    assert!(values["ANON_KEY"].ends_with("blYTn_I0"), "an existing .env.local works");
    assert!(
        serve.said().contains(&values["DB_URL"]),
        "serve prints what status prints"
    );
    write_note(&home, "kept").await;
    serve.stop().await;
    assert_eq!(home.processes(), [""; 0]);
    assert!(home.postmaster().is_none());
    assert_eq!(home.status().status.code(), Some(1), "status of what is stopped");

    let serve = home.serve().await;
    assert_eq!(notes(&home).await, ["kept"]);
    serve.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill() {
    let home = Home::new();
    let mut serve = home.serve().await;
    write_note(&home, "acknowledged").await;
    serve.signal(Signal::SIGKILL);
    serve.ended().await;
    // At once, while the old Postgres may still be there.
    let serve = home.serve().await;
    assert_eq!(notes(&home).await, ["acknowledged"]);
    serve.stop().await;
    assert_eq!(home.processes(), [""; 0]);
}

#[tokio::test]
async fn a_start_waits_for_a_postgres_that_is_still_there() {
    let home = Home::new();
    home.serve().await.stop().await;
    // As after a kill of `serve`, while its Postgres writes the last checkpoint.
    let settings = Settings {
        folder: home.data_dir(),
        bin: None,
        account: None,
        superuser: "supabase_admin".into(),
        port: home.db_port,
        durability: Durability::Full,
        parameters: vec![],
    };
    let earlier = Server::start(&settings, &CancellationToken::new()).await.unwrap();
    let mut serve = home.spawn(home.command());
    until("the new one has met the old one", async || {
        serve.said().contains("waiting for the Postgres of an earlier run")
    })
    .await;
    earlier.stop().await.unwrap();
    serve.ready().await;
    serve.stop().await;
}

#[tokio::test]
async fn postgres_does_not_outlive_a_kill() {
    let home = Home::new();
    let mut serve = home.serve().await;
    serve.signal(Signal::SIGKILL);
    serve.ended().await;
    until("Postgres has followed", async || home.processes().is_empty()).await;
}

#[tokio::test]
async fn the_end_of_postgres_ends_serve() {
    let home = Home::new();
    let mut serve = home.serve().await;
    kill(home.postmaster().unwrap(), Signal::SIGQUIT).unwrap();
    assert_eq!(serve.ended().await.code(), Some(1));
    assert!(serve.said().contains("Postgres is gone"), "{}", serve.said());
    assert!(
        serve.said().contains("received immediate shutdown request"),
        "with its last words: {}",
        serve.said()
    );
    assert_eq!(home.processes(), [""; 0]);
}

#[tokio::test]
async fn a_stop_while_starting_leaves_nothing() {
    let home = Home::new();
    let mut serve = home.spawn(home.command());
    // initdb runs, and so serve listens to signals.
    until("initdb runs", async || home.data_dir().join("pg.new/base").exists()).await;
    serve.signal(Signal::SIGTERM);
    let status = serve.ended().await;
    assert!(status.success(), "{status}: {}", serve.said());
    until("initdb has ended", async || home.processes().is_empty()).await;
    assert!(home.postmaster().is_none());

    home.serve().await.stop().await;
}

#[tokio::test]
async fn one_serve_has_a_folder() {
    let home = Home::new();
    let serve = home.serve().await;
    let mut second = switchboard();
    second
        .args(["serve", "--listen", "127.0.0.1:0", "--db-port", "0", "--data-dir"])
        .arg(home.data_dir());
    let (code, words) = refused(second);
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("another `switchboard serve` (process"), "{words}");
    assert_eq!(
        home.values()["API_URL"],
        serve.url,
        "the first goes on, and status tells of it"
    );
    serve.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_told_before_anything_is_made() {
    let home = Home::new();
    let _holder = TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let (code, words) = refused(home.command());
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains(&format!("port {} is taken", home.port)), "{words}");
    assert!(words.contains(&format!("(process {})", std::process::id())), "{words}");
    assert!(!home.data_dir().join("pg").exists());
}

#[tokio::test]
async fn a_taken_database_port_is_told() {
    let home = Home::new();
    let _holder = TcpListener::bind(("127.0.0.1", home.db_port)).unwrap();
    let (code, words) = refused(home.command());
    assert_eq!(code, Some(1), "{words}");
    assert!(
        words.contains(&format!("port {} is taken", home.db_port)) && words.contains("--db-port"),
        "{words}"
    );
    assert_eq!(home.processes(), [""; 0]);
}

#[tokio::test]
async fn data_of_another_version_is_left_alone() {
    let home = Home::new();
    pretend_cluster(&home.data_dir(), 9);
    let (code, words) = refused(home.command());
    assert_eq!(code, Some(1), "{words}");
    assert!(
        words.contains("is PostgreSQL 9's") && words.contains("--data-dir"),
        "{words}"
    );
    assert_eq!(fs::read_dir(home.data_dir().join("pg")).unwrap().count(), 1);
}

#[tokio::test]
async fn passwords_guard_the_tcp_port() {
    let home = Home::new();
    let serve = home.serve().await;
    let login = |user: &str, password: &str| {
        let url = format!("postgresql://{user}:{password}@127.0.0.1:{}/postgres", home.db_port);
        async move { PgConnection::connect(&url).await }
    };
    let mut connection = login("postgres", "postgres").await.unwrap();
    let superuser: bool = sqlx::query_scalar("select usesuper from pg_user where usename = current_user")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert!(!superuser, "as on a hosted project");
    let fsync: String = sqlx::query_scalar("show fsync")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(fsync, "on");
    for user in ["postgres", "supabase_admin", "authenticator", "supabase_auth_admin"] {
        let error = login(user, "wrong").await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "28P01", "{user}");
    }
    serve.stop().await;
}

#[tokio::test]
async fn without_a_database_port_there_is_the_socket() {
    let mut home = Home::new();
    home.db_port = 0;
    let serve = home.serve().await;
    write_note(&home, "over the socket").await;
    assert!(home.values()["DB_URL"].contains("host=/"));
    serve.stop().await;
}

#[tokio::test]
async fn public_keys_stay_on_this_machine() {
    let home = Home::new();
    let port = free_port();
    let mut open = home.command();
    open.args(["--listen", &format!("0.0.0.0:{port}")]);
    let (code, words) = refused(open);
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("switchboard keys generate"), "{words}");

    let generated = switchboard().args(["keys", "generate"]).output().unwrap().stdout;
    let generated = String::from_utf8(generated).unwrap();
    let keys = generated.lines().map(|line| line.split_once('=').unwrap());
    let mut own = home.command();
    own.args(["--listen", &format!("0.0.0.0:{port}")]);
    own.envs(keys.map(|(name, value)| (name, value.trim_matches('"'))));
    let mut serve = home.spawn(own);
    serve.ready().await;
    let values = home.values();
    for name in ["JWT_SECRET", "SECRET_KEY", "SERVICE_ROLE_KEY"] {
        assert!(
            generated.contains(&format!("{name}=\"{}\"", values[name])),
            "{name} is the one given"
        );
        assert!(!serve.said().contains(&values[name]), "{name} is in no log");
    }
    serve.stop().await;
}

#[tokio::test]
async fn only_an_account_that_is_there_runs_postgres() {
    let home = Home::new();
    let mut command = home.command();
    command.args(["--postgres-user", "nobody-of-this-name"]);
    let (code, words) = refused(command);
    assert_eq!(code, Some(1), "{words}");
    let reason = match Uid::effective().is_root() {
        true => "it does not exist",
        false => "only root can run Postgres as another account",
    };
    assert!(
        words.contains("nobody-of-this-name") && words.contains(reason),
        "{words}"
    );
    assert!(!home.data_dir().join("pg/PG_VERSION").exists());
}
