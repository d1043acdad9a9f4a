//! REST alone, as PostgREST would serve a database that is no Supabase project.

use std::{collections::BTreeMap, net::SocketAddr};

use axum::ServiceExt;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor};
use switchboard::{
    db::{Database, Login},
    gateway::rest::{self, Place, Settings},
    health::Health,
    shutdown::Shutdown,
};
use tokio::net::TcpListener;

use crate::support::{cluster::TestDatabase, until};

mod answers;
mod command;
mod database;
mod tokens;
mod writes;

/// A database with a schema `shop`, a role `<name>` that logs in and one `<name>_guest` that it becomes.
struct Shop {
    name: String,
    database: TestDatabase,
}

impl Shop {
    async fn new(name: &str) -> Self {
        let shop = Self {
            name: name.to_owned(),
            database: TestDatabase::empty().await,
        };
        shop.run(&format!(
            "create role {name} login noinherit;
             create role {name}_guest;
             grant {name}_guest to {name};
             create schema shop;
             create table shop.goods (id int primary key, name text not null);
             insert into shop.goods values (1, 'lamp'), (2, 'desk'), (3, 'chair');
             grant usage on schema shop to {name}_guest;
             grant all on shop.goods to {name}_guest;"
        ))
        .await;
        shop
    }

    /// Runs statements as a superuser.
    async fn run(&self, sql: &str) {
        let pool = self.database.pool(Login::Admin);
        pool.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())))
            .await
            .unwrap();
        pool.close().await;
    }

    async fn ask(&self, sql: &str) -> Value {
        let pool = self.database.pool(Login::Admin);
        let (answer,): (Value,) = sqlx::query_as(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&pool)
            .await
            .unwrap();
        pool.close().await;
        answer
    }

    /// The settings every test begins with.
    fn settings(&self) -> Settings {
        Settings {
            db_schemas: vec!["shop".to_owned()],
            db_anon_role: Some(format!("{}_guest", self.name)),
            db_pool: 2,
            ..Settings::postgrest()
        }
    }

    async fn serve(&self, settings: Settings) -> Alone {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (health, shutdown) = (Health::default(), Shutdown::default());
        let place = Place {
            database: Database::from_url(&self.database.url(&self.name)).unwrap().as_given(),
            verifier: None,
            public_url: url.clone(),
            shutdown: shutdown.clone(),
            health: health.clone(),
        };
        let service = rest::Alone::start(place, settings)
            .unwrap()
            .into_make_service_with_connect_info::<SocketAddr>();
        let stop = shutdown.token().clone();
        shutdown.spawn(async move {
            axum::serve(listener, service)
                .with_graceful_shutdown(stop.cancelled_owned())
                .await
                .unwrap();
        });
        until("the schema is read", async || {
            health.report().values().all(Result::is_ok)
        })
        .await;
        Alone {
            url,
            client: Client::builder().no_proxy().build().unwrap(),
            shutdown,
        }
    }
}

/// A service that stands in for a PostgREST. It stops when dropped.
struct Alone {
    url: String,
    client: Client,
    shutdown: Shutdown,
}

impl Alone {
    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    /// A path's status and JSON.
    async fn answer(&self, path: &str) -> (StatusCode, Value) {
        answer(self.get(path).send().await.unwrap()).await
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.shutdown.start();
    }
}

async fn answer(response: Response) -> (StatusCode, Value) {
    (response.status(), response.json().await.unwrap())
}

#[tokio::test]
async fn settings_are_made_by_a_function_and_by_the_login_role_and_read_again_when_told() {
    let shop = Shop::new("alone_configured").await;
    shop.run(
        "create function shop.configure() returns void language sql as $$
           select set_config('pgrst.db_max_rows', '1', true), set_config('pgrst.db_tx_end', 'nonsense', true)
         $$;
         grant usage on schema shop to alone_configured;",
    )
    .await;
    let settings = Settings {
        db_pre_config: Some(rest::catalog::Name::new("shop", "configure")),
        ..shop.settings()
    };
    let alone = shop.serve(settings).await;
    let rows = async || alone.answer("/goods").await.1.as_array().unwrap().len();
    assert_eq!(rows().await, 1, "as the function says");
    shop.run("alter role alone_configured set pgrst.db_max_rows = '2'; notify pgrst, 'reload config'")
        .await;
    until("the role's setting counts more", async || rows().await == 2).await;
    shop.run("drop function shop.configure(); alter role alone_configured reset all; notify pgrst")
        .await;
    until("what cannot be called sets nothing", async || rows().await == 3).await;
}

#[tokio::test]
async fn a_change_of_the_schema_is_seen_when_told() {
    let shop = Shop::new("alone_changed").await;
    let alone = shop.serve(shop.settings()).await;
    assert_eq!(alone.answer("/orders").await.0, StatusCode::NOT_FOUND);
    shop.run("create table shop.orders (id int); grant all on shop.orders to alone_changed_guest; notify pgrst")
        .await;
    until("the table is known", async || {
        alone.answer("/orders").await == (StatusCode::OK, json!([]))
    })
    .await;
}

#[tokio::test]
async fn a_change_of_the_schema_is_seen_untold() {
    let shop = Shop::new("alone_untold").await;
    let alone = shop.serve(shop.settings()).await;
    let status = async |path: &str| alone.answer(path).await.0;
    shop.run("create table shop.orders (id int); grant all on shop.orders to alone_untold_guest")
        .await;
    until("the table is known", async || status("/orders").await == StatusCode::OK).await;
    shop.run("create function shop.price(id int) returns int language sql immutable return 7")
        .await;
    until("the function is known", async || {
        status("/rpc/price?id=1").await == StatusCode::OK
    })
    .await;
    shop.run("alter function shop.price rename to cost").await;
    until("the function is known by its new name", async || {
        status("/rpc/cost?id=1").await == StatusCode::OK
    })
    .await;
    shop.run("drop table shop.orders").await;
    until("the table is known to be gone", async || {
        alone.answer("/orders").await.1["code"] == "PGRST205"
    })
    .await;
}

#[tokio::test]
async fn answers_repeat_the_trace_say_what_took_how_long_and_who_may_read_them() {
    let shop = Shop::new("alone_told").await;
    let alone = shop
        .serve(Settings {
            server_trace_header: Some("X-Trace".to_owned()),
            server_timing_enabled: true,
            server_cors_allowed_origins: Some(vec!["https://shop.example".to_owned()]),
            ..shop.settings()
        })
        .await;
    let response = alone
        .get("/goods?id=eq.1")
        .header("x-trace", "a1")
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["x-trace"], "a1");
    let timing = response.headers()["server-timing"].to_str().unwrap();
    let steps: Vec<_> = timing.split(", ").map(|lap| lap.split(';').next().unwrap()).collect();
    assert_eq!(steps, ["jwt", "parse", "plan", "transaction", "response"]);
    let refused = alone.get("/goods?id=1").send().await.unwrap();
    let timing = refused.headers()["server-timing"].to_str().unwrap();
    assert!(timing.contains("parse;dur=") && !timing.contains("plan"), "{timing}");

    let from = |origin: &'static str| {
        let request = alone.get("/goods").header("origin", origin);
        async { request.send().await.unwrap().headers().clone() }
    };
    let shown = from("https://shop.example").await;
    assert_eq!(shown["access-control-allow-origin"], "https://shop.example");
    assert_eq!(shown["access-control-allow-credentials"], "true");
    assert!(
        !from("https://elsewhere.example")
            .await
            .contains_key("access-control-allow-origin")
    );
    let preflight = alone
        .client
        .request(reqwest::Method::OPTIONS, format!("{}/goods", alone.url))
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "PATCH")
        .header("access-control-request-headers", "prefer")
        .send()
        .await
        .unwrap();
    let allowed = preflight.headers();
    assert_eq!(
        allowed["access-control-allow-headers"],
        "Authorization, prefer, Accept, Accept-Language, Content-Language"
    );
    assert!(
        allowed["access-control-allow-methods"]
            .to_str()
            .unwrap()
            .contains("PATCH")
    );
}
