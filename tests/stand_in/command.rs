//! `serve --services rest` on a database of somebody's.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::support::serve::{free_port, switchboard};

/// A process that is killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> Process {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process(command.spawn().unwrap())
}

#[tokio::test]
async fn a_bare_database_is_served_under_postgrests_names_and_left_as_it_is() {
    let shop = Shop::new("alone_bare").await;
    let (port, admin) = (free_port(), free_port());
    let _process = spawn(
        switchboard()
            .args(["serve", "--services", "rest", "--db-max-rows", "2"])
            .env("PGRST_DB_URI", shop.database.url("alone_bare"))
            .env("PGRST_DB_SCHEMA", "shop")
            .env("PGRST_DB_ANON_ROLE", "alone_bare_guest")
            .env("PGRST_DB_MAX_ROWS", "1")
            .env("PGRST_APP_SETTINGS_colour", "blue")
            .env("PGRST_JWT_SECRET", tokens::SECRET)
            .env("PGRST_DB_POOL", "3")
            .env("PGRST_SERVER_HOST", "127.0.0.1")
            .env("PGRST_SERVER_PORT", port.to_string())
            .env("PGRST_ADMIN_SERVER_PORT", admin.to_string()),
    );
    let client = Client::builder().no_proxy().build().unwrap();
    let get = async |port: u16, path: &str| client.get(format!("http://127.0.0.1:{port}{path}")).send().await;
    until("the stand-in is ready", async || {
        get(admin, "/ready")
            .await
            .is_ok_and(|ready| ready.status().is_success())
    })
    .await;
    let rows = json!([{ "id": 1, "name": "lamp" }, { "id": 2, "name": "desk" }]);
    for path in ["/goods", "/rest/v1/goods"] {
        let (status, goods) = answer(get(port, path).await.unwrap()).await;
        assert_eq!(
            (status, &goods),
            (StatusCode::OK, &rows),
            "{path}: a flag goes before the environment"
        );
    }
    let (_, described) = answer(get(port, "/").await.unwrap()).await;
    assert_eq!(described["basePath"], "/");
    assert!(get(admin, "/live").await.unwrap().status().is_success());
    let token = tokens::token(&json!({}), tokens::SECRET, None);
    for _ in 0..3 {
        let goods = client.get(format!("http://127.0.0.1:{port}/goods")).bearer_auth(&token);
        assert_eq!(goods.send().await.unwrap().status(), StatusCode::OK);
    }
    let metrics = get(admin, "/metrics").await.unwrap().text().await.unwrap();
    for line in [
        "pgrst_db_pool_max 3",
        "pgrst_db_pool_available 1",
        "pgrst_db_pool_waiting 0",
        "pgrst_db_pool_timeouts_total 0",
        "pgrst_jwt_cache_requests_total 3",
        "pgrst_jwt_cache_hits_total 2",
        "pgrst_jwt_cache_evictions_total 0",
        r#"pgrst_schema_cache_loads_total{status="SUCCESS"} 1"#,
    ] {
        assert!(metrics.lines().any(|told| told == line), "{line}: {metrics}");
    }
    assert!(
        metrics.contains("\npgrst_schema_cache_query_time_seconds 0."),
        "{metrics}"
    );
    let made = shop
        .ask("select jsonb_agg(nspname) from pg_namespace where nspname !~ '^pg_'")
        .await;
    let made: Vec<&str> = made.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(made, ["public", "information_schema", "shop"], "nothing is applied");
}

#[test]
fn a_setting_that_makes_no_sense_is_misuse() {
    for (name, value) in [
        ("PGRST_DB_MAX_ROWS", "many"),
        ("PGRST_DB_SCHEMAS", "pg_catalog"),
        ("PGRST_JWT_SECRET", "short"),
        ("PGRST_JWT_ROLE_CLAIM_KEY", "role"),
    ] {
        let output = switchboard()
            .args([
                "serve",
                "--services",
                "rest",
                "--database-url",
                "postgresql://u@127.0.0.1:1/d",
            ])
            .env(name, value)
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {told}");
        assert!(told.contains(name), "{told}");
    }
}
