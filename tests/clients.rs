//! The API through clients that others wrote: the crates `postgrest` and `supabase-realtime-rs`, as far as they work
//! against Supabase itself. `tests/client` has supabase-js.

use postgrest::Postgrest;
use serde_json::{Value, json};
use sqlx::PgPool;
use supabase_realtime_rs::{
    ChannelEvent, EventPayload, PostgresChangeEvent, PostgresChangesFilter, PostgresChangesPayload, RealtimeClient,
    RealtimeClientOptions,
};
use switchboard::db::Login;

use crate::support::{app::App, cluster::TestDatabase, until};

/// A gateway on a database with one open table, whose changes are published.
async fn notes() -> (App, PgPool) {
    let database = TestDatabase::platform().await;
    let pool = database.pool(Login::Owner);
    sqlx::raw_sql(
        "create table notes (id int primary key, text text not null);
         alter publication supabase_realtime add table notes;",
    )
    .execute(&pool)
    .await
    .unwrap();
    (App::on(database).await, pool)
}

fn rest(app: &App) -> Postgrest {
    let key = app.keys.service_role.expose();
    Postgrest::new(format!("{}/rest/v1", app.url))
        .insert_header("apikey", key)
        .insert_header("authorization", format!("Bearer {key}"))
}

async fn realtime(app: &App) -> RealtimeClient {
    let client = RealtimeClient::new(
        format!("{}/realtime/v1/websocket", app.url.replace("http://", "ws://")),
        RealtimeClientOptions {
            api_key: app.keys.anon.expose().to_owned(),
            ..Default::default()
        },
    )
    .unwrap();
    client.connect().await.unwrap();
    client
}

#[tokio::test]
async fn rows_through_postgrest() {
    let (app, _pool) = notes().await;
    let rest = rest(&app);
    let rows = r#"[{"id": 1, "text": "one"}, {"id": 2, "text": "two, \"quoted\""}, {"id": 3, "text": "three"}]"#;
    let inserted = rest.from("notes").insert(rows).execute().await.unwrap();
    assert_eq!(inserted.status().as_u16(), 201);
    assert_eq!(
        serde_json::from_str::<Value>(&inserted.text().await.unwrap()).unwrap()[0]["text"],
        "one"
    );

    let page = rest
        .from("notes")
        .select("id")
        .order("id.desc")
        .range(0, 1)
        .execute()
        .await
        .unwrap();
    assert_eq!(page.headers()["content-range"], "0-1/*");
    let page: Value = serde_json::from_str(&page.text().await.unwrap()).unwrap();
    assert_eq!(page, json!([{ "id": 3 }, { "id": 2 }]));

    // Counting, this client asks for one row.
    let counted = rest.from("notes").select("id").exact_count().execute().await.unwrap();
    assert_eq!(counted.headers()["content-range"], "0-0/3");

    let one = rest
        .from("notes")
        .eq("text", "two, \"quoted\"")
        .single()
        .execute()
        .await
        .unwrap();
    let one: Value = serde_json::from_str(&one.text().await.unwrap()).unwrap();
    assert_eq!(one, json!({ "id": 2, "text": "two, \"quoted\"" }));

    let updated = rest
        .from("notes")
        .eq("id", "1")
        .update(r#"{"text": "changed"}"#)
        .execute()
        .await
        .unwrap();
    assert_eq!(updated.status().as_u16(), 200);
    let twice = rest
        .from("notes")
        .insert(r#"{"id": 1, "text": "again"}"#)
        .execute()
        .await
        .unwrap();
    assert_eq!(twice.status().as_u16(), 409);
    assert_eq!(
        serde_json::from_str::<Value>(&twice.text().await.unwrap()).unwrap()["code"],
        "23505"
    );
    app.stop().await;
}

#[tokio::test]
async fn changes_through_supabase_realtime_rs() {
    let (app, pool) = notes().await;
    let client = realtime(&app).await;
    let channel = client.channel("notes", Default::default()).await;
    let filter = PostgresChangesFilter::new(PostgresChangeEvent::All, "public").table("notes");
    let mut changes = channel.on_postgres_changes(filter).await;
    channel.subscribe().await.unwrap();
    // `subscribe` does not wait for the answer; the database says who is subscribed.
    until("the subscription is live", async || {
        sqlx::query_scalar("select exists (select from realtime.subscription)")
            .fetch_one(&pool)
            .await
            .unwrap()
    })
    .await;

    sqlx::query("insert into notes values (1, 'live')")
        .execute(&pool)
        .await
        .unwrap();
    let mut change = None;
    until("the insert arrives", async || {
        change = changes.try_recv().ok();
        change.is_some()
    })
    .await;
    let Some(PostgresChangesPayload::Insert(insert)) = change else {
        panic!("not an insert: {change:?}")
    };
    assert_eq!(insert.new["text"], "live");
    client.disconnect().await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn broadcasts_through_supabase_realtime_rs() {
    let (app, _pool) = notes().await;
    let (sender, receiver) = (realtime(&app).await, realtime(&app).await);
    let listening = receiver.channel("room", Default::default()).await;
    let mut heard = listening.on(ChannelEvent::broadcast("greeting")).await;
    listening.subscribe().await.unwrap();
    let speaking = sender.channel("room", Default::default()).await;
    speaking.subscribe().await.unwrap();
    let mut event = None;
    // Neither join is known to be answered, so it is said until it is heard.
    until("the broadcast is heard", async || {
        speaking
            .send(ChannelEvent::broadcast("greeting"), json!({ "text": "hello" }))
            .await
            .unwrap();
        event = heard.try_recv().ok();
        event.is_some()
    })
    .await;
    let Some(EventPayload::Broadcast(payload)) = event else {
        panic!("no broadcast: {event:?}")
    };
    assert_eq!(payload["payload"]["text"], "hello");
    sender.disconnect().await.unwrap();
    receiver.disconnect().await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn a_table_that_cannot_be_described_holds_up_nobody() {
    let (app, pool) = notes().await;
    // Policies that speak of a column the table does not have, which only a superuser can bring about: whoever asks
    // for them is refused.
    sqlx::raw_sql(
        "create table wide (a int, b int, c int, d int);
         create policy of_wide on wide using (d > 0);
         create table narrow (id int primary key);
         create policy of_narrow on narrow using (id > 0);
         update pg_policy set polqual = (select polqual from pg_policy where polname = 'of_wide')
         where polname = 'of_narrow';
         grant select on narrow to anon;
         alter publication supabase_realtime add table narrow;",
    )
    .execute(&app.database.pool(Login::Admin))
    .await
    .unwrap();
    let client = realtime(&app).await;
    let channel = client.channel("both", Default::default()).await;
    let of_narrow = PostgresChangesFilter::new(PostgresChangeEvent::All, "public").table("narrow");
    let _narrow = channel.on_postgres_changes(of_narrow).await;
    channel.subscribe().await.unwrap();
    let channel = client.channel("notes", Default::default()).await;
    let of_notes = PostgresChangesFilter::new(PostgresChangeEvent::All, "public").table("notes");
    let mut changes = channel.on_postgres_changes(of_notes).await;
    channel.subscribe().await.unwrap();
    until("both subscriptions are live", async || {
        sqlx::query_scalar("select count(distinct entity) = 2 from realtime.subscription")
            .fetch_one(&pool)
            .await
            .unwrap()
    })
    .await;

    sqlx::raw_sql("insert into narrow values (1); insert into notes values (1, 'passes')")
        .execute(&app.database.pool(Login::Admin))
        .await
        .unwrap();
    until("the change of the other table arrives", async || {
        changes.try_recv().is_ok()
    })
    .await;
    until("the health does not suffer", async || {
        app.health.report().values().all(Result::is_ok)
    })
    .await;
    client.disconnect().await.unwrap();
    app.stop().await;
}
