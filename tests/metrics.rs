//! What Prometheus scrapes, from a gateway and from a worker.

use std::process::{Child, Stdio};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Client, StatusCode};
use switchboard::{db::Login, worker::duties};

use crate::{
    support::{
        app::App,
        cluster::TestDatabase,
        serve::{free_port, switchboard},
        until,
    },
    worker::desk,
};

async fn scrape(url: &str, key: Option<&str>) -> (StatusCode, String) {
    let mut request = Client::new().get(format!("{url}/metrics"));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

fn value(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_tells_the_service_alone() {
    let app = App::start().await;
    for key in [
        None,
        Some("x"),
        Some(app.keys.anon.expose()),
        Some(app.keys.publishable.expose()),
    ] {
        assert_eq!(scrape(&app.url, key).await.0, StatusCode::UNAUTHORIZED, "{key:?}");
    }
    for key in [app.keys.service_role.expose(), app.keys.secret.expose()] {
        let (status, text) = scrape(&app.url, Some(key)).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(value(&text, "switchboard_up"), Some(1.0), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_desk_and_its_assignments_are_told() {
    let database = TestDatabase::new().await;
    let mut owner = desk::owner(&database.database).await;
    let agents = desk::agents(&mut owner, 1, 2).await;
    let customers = desk::users(&mut owner, 3).await;
    for customer in &customers {
        desk::start(&mut owner, *customer).await.unwrap();
    }
    assert_eq!(agents.len(), 1);
    duties::TOTALS.tick(&database.pool(Login::Owner)).await.unwrap();

    let app = App::on(database).await;
    let (_, text) = scrape(&app.url, Some(app.keys.service_role.expose())).await;
    let queue = "{tenant=\"\",queue=\"Default\"}";
    for (name, wanted) in [
        (&format!("switchboard_sessions_waiting{queue}"), 1.0),
        (&format!("switchboard_sessions_active{queue}"), 2.0),
        (&"switchboard_agents_available".to_owned(), 1.0),
        (&"switchboard_seats".to_owned(), 2.0),
        (&"switchboard_seats_free".to_owned(), 0.0),
        (&"switchboard_assignments_total".to_owned(), 2.0),
    ] {
        assert_eq!(value(&text, name), Some(wanted), "{name} in\n{text}");
    }
    app.stop().await;
}

/// A worker of the real binary, stopped when dropped.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn worker(database_url: &str, address: &str, token: Option<&str>) -> Worker {
    let mut command = switchboard();
    command
        .args(["worker", "--database-url", database_url, "--metrics-listen", address])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(token) = token {
        command.args(["--metrics-token", token]);
    }
    Worker(command.spawn().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_what_its_duties_did() {
    let database = TestDatabase::new().await;
    let address = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{address}");
    let _worker = worker(&database.url("postgres"), &address, Some("a token"));
    until("the worker counts its duties", async || {
        let answer = Client::new()
            .get(format!("{url}/metrics"))
            .bearer_auth("a token")
            .send()
            .await;
        let Ok(answer) = answer else { return false };
        let text = answer.text().await.unwrap();
        value(&text, "switchboard_up") == Some(1.0)
            && value(&text, "switchboard_duty_runs_total{duty=\"totals\"}") >= Some(1.0)
            && value(&text, "switchboard_duty_errors_total{duty=\"totals\"}") == Some(0.0)
            && value(&text, "switchboard_duty_seconds_total{duty=\"totals\"}") > Some(0.0)
    })
    .await;
    assert_eq!(scrape(&url, None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(scrape(&url, Some("another")).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_scrapes_are_answered() {
    let address = format!("127.0.0.1:{}", free_port());
    let _worker = worker("postgresql://nobody@127.0.0.1:1/none", &address, None);
    until("the worker tells that it has no database", async || {
        let answer = reqwest::get(format!("http://{address}/metrics")).await;
        let Ok(answer) = answer else { return false };
        answer.status().is_success() && value(&answer.text().await.unwrap(), "switchboard_up") == Some(0.0)
    })
    .await;
}

#[test]
fn a_port_for_other_machines_needs_a_token() {
    let mut worker = worker("postgresql://nobody@127.0.0.1:1/none", "0.0.0.0:0", None);
    assert_eq!(worker.0.wait().unwrap().code(), Some(2));
}
