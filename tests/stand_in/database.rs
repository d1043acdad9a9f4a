//! What a database in trouble means to clients.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_request_that_gets_no_session_in_time_is_told_so() {
    let shop = Shop::new("alone_busy").await;
    shop.run("create function shop.sleep() returns void language sql as 'select pg_sleep(30)'")
        .await;
    let alone = shop
        .serve(Settings {
            db_pool: 1,
            db_pool_acquisition_timeout: Duration::from_secs(1),
            ..shop.settings()
        })
        .await;
    let sleeping = tokio::spawn(alone.client.post(format!("{}/rpc/sleep", alone.url)).send());
    let asleep = "select to_jsonb(count(*)) from pg_stat_activity where query ~ 'sleep' and usename = 'alone_busy'
                    and wait_event = 'PgSleep'";
    until("the one session sleeps", async || shop.ask(asleep).await == json!(1)).await;
    let (status, error) = alone.answer("/goods").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(error["code"], "PGRST003");
    sleeping.abort();
}

#[tokio::test]
async fn a_lost_database_is_told_of_and_found_again() {
    let shop = Shop::new("alone_lost").await;
    let alone = shop.serve(shop.settings()).await;
    assert_eq!(alone.answer("/goods?select=id&id=eq.1").await.1, json!([{ "id": 1 }]));
    shop.run(
        "alter role alone_lost nologin;
         select pg_terminate_backend(pid) from pg_stat_activity where usename = 'alone_lost'",
    )
    .await;
    let sessions = "select to_jsonb(count(*)) from pg_stat_activity where usename = 'alone_lost'";
    until("every session is gone", async || shop.ask(sessions).await == json!(0)).await;
    let (status, error) = alone.answer("/goods").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{error}");
    assert_eq!(error["code"], "PGRST000", "{error}");
    shop.run("alter role alone_lost login").await;
    assert_eq!(alone.answer("/goods?select=id&id=eq.2").await.1, json!([{ "id": 2 }]));
}

#[tokio::test]
async fn nothing_stays_prepared_where_it_may_not() {
    let shop = Shop::new("alone_pooled").await;
    shop.run(
        "create function shop.prepared() returns bigint language sql as 'select count(*) from pg_prepared_statements'",
    )
    .await;
    for stays in [true, false] {
        let alone = shop
            .serve(Settings {
                db_pool: 1,
                db_prepared_statements: stays,
                ..shop.settings()
            })
            .await;
        assert_eq!(alone.answer("/goods?id=eq.1").await.0, StatusCode::OK);
        let (_, prepared) = alone.answer("/rpc/prepared").await;
        assert_eq!(prepared.as_i64() == Some(0), !stays, "{prepared}");
    }
}

#[tokio::test]
async fn what_a_role_brings_along_holds_for_its_requests() {
    let shop = Shop::new("alone_bound").await;
    shop.run(
        "alter role alone_bound_guest set statement_timeout = '50ms';
         create function shop.sleep() returns void language sql as 'select pg_sleep(30)'",
    )
    .await;
    let alone = shop.serve(shop.settings()).await;
    let sleep = alone.client.post(format!("{}/rpc/sleep", alone.url)).send().await;
    let (status, error) = answer(sleep.unwrap()).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(error["code"], "57014");
}
