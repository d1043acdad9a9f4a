//! Realtime while its database does not let it in: a superuser's doing, so no test of a client.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use switchboard::db::Login;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::support::{app::App, cluster::TestDatabase, until};

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(app: &App) -> Self {
        let url = app.url.replace("http://", "ws://");
        let key = app.keys.anon.expose();
        let url = format!("{url}/realtime/v1/websocket?vsn=2.0.0&apikey={key}");
        Self(connect_async(url).await.unwrap().0)
    }

    /// The response to a join that is refused; nothing if it is not.
    async fn join(&mut self, topic: &str, config: Value) -> Option<Value> {
        let frame = json!(["1", "1", topic, "phx_join", { "config": config }]);
        self.0.send(Message::text(frame.to_string())).await.unwrap();
        let reply = async {
            loop {
                let Message::Text(text) = self.0.next().await.unwrap().unwrap() else {
                    continue;
                };
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame[2] == topic && frame[3] == "phx_reply" {
                    return frame[4].clone();
                }
            }
        };
        let reply = timeout(Duration::from_secs(20), reply).await.unwrap();
        (reply["status"] == "error").then(|| reply["response"]["reason"].clone())
    }
}

#[tokio::test]
async fn a_join_that_wants_its_changes_is_refused_when_they_do_not_flow_in_time() {
    let app = App::on(TestDatabase::platform().await).await;
    let admin = app.database.pool(Login::Admin);
    sqlx::raw_sql("create table notes (id int primary key); alter publication supabase_realtime add table notes")
        .execute(&admin)
        .await
        .unwrap();
    let wanted = json!({
        "postgres_changes": [{ "event": "*", "schema": "public", "table": "notes" }],
        "postgres_changes_options": { "wait": true, "timeout": 100 },
    });
    let mut socket = Socket::open(&app).await;
    let open = |open: bool| {
        sqlx::query("update pg_database set datallowconn = $1 where datname = current_database()")
            .bind(open)
            .execute(&admin)
    };
    open(false).await.unwrap();
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_replication
         where pid in (select active_pid from pg_replication_slots where database = current_database())",
    )
    .execute(&admin)
    .await
    .unwrap();
    let mut reason = None;
    until("the changes do not flow", async || {
        reason = socket.join("realtime:notes", wanted.clone()).await;
        reason.is_some()
    })
    .await;
    assert_eq!(
        reason.unwrap(),
        "PostgresChangesSubscribeTimeout: Timed out after 100ms waiting for the postgres_changes subscription"
    );
    assert_eq!(socket.join("realtime:chat", json!({})).await, None, "others may join");
    open(true).await.unwrap();
    until("the changes flow again", async || {
        socket.join("realtime:notes", wanted.clone()).await.is_none()
    })
    .await;
    app.stop().await;
}
