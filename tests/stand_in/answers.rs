//! What answers say besides rows: lengths, counts, warnings and hints.

use super::*;

/// A shop whose goods are on shelves.
async fn shop(name: &str) -> Shop {
    let shop = Shop::new(name).await;
    shop.run(&format!(
        "create table shop.shelves (id int primary key, room text, good_id int references shop.goods);
         insert into shop.shelves values (1, 'cellar', 1), (2, 'attic', 1), (3, 'attic', 2);
         create table shop.good_notes (id int primary key);
         create function shop.cheapest() returns setof shop.goods language sql stable rows 1
           as 'select * from shop.goods order by id limit 2';
         grant all on shop.shelves, shop.good_notes to {name}_guest;"
    ))
    .await;
    shop
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_body_tells_no_length_unless_it_has_none_for_everybody() {
    let shop = shop("alone_lengths").await;
    let alone = shop.serve(shop.settings()).await;
    for path in ["/goods", "/goods?limit=1", "/rpc/cheapest", "/"] {
        let head = alone.client.head(format!("{}{path}", alone.url)).send().await.unwrap();
        assert_eq!(
            (head.status(), header(&head, "content-length")),
            (StatusCode::OK, None),
            "{path}"
        );
        let get = alone.get(path).send().await.unwrap();
        let length = header(&get, "content-length").unwrap().to_owned();
        assert_eq!(length, get.bytes().await.unwrap().len().to_string(), "{path}");
    }
    let insert = alone
        .client
        .post(format!("{}/goods", alone.url))
        .json(&json!({ "id": 9, "name": "rug" }));
    let created = insert.send().await.unwrap();
    assert_eq!(
        (created.status(), header(&created, "content-length")),
        (StatusCode::CREATED, Some("0"))
    );
}

#[tokio::test]
async fn rows_are_counted_once_where_all_of_them_are_given() {
    let shop = shop("alone_counts").await;
    let alone = shop
        .serve(Settings {
            db_plan_enabled: true,
            ..shop.settings()
        })
        .await;
    for (path, range, aggregates) in [
        ("/goods", "0-2/3", 1),
        ("/goods?id=gt.1", "0-1/2", 1),
        ("/goods?limit=1", "0-0/3", 2),
        ("/goods?offset=1", "1-2/3", 2),
        ("/rpc/cheapest", "0-1/2", 1),
        ("/rpc/cheapest?limit=1", "0-0/2", 2),
    ] {
        let exact = alone.get(path).header("prefer", "count=exact");
        let told = exact.try_clone().unwrap().send().await.unwrap();
        assert_eq!(header(&told, "content-range"), Some(range), "{path}");
        let plan = exact.header("accept", "application/vnd.pgrst.plan+json");
        let plan = plan.send().await.unwrap().text().await.unwrap();
        assert_eq!(plan.matches(r#""Aggregate""#).count(), aggregates, "{path}: {plan}");
    }
    shop.run("alter role alone_counts set pgrst.db_max_rows = '2'; notify pgrst")
        .await;
    until("a limit that no client chose is counted behind", async || {
        let told = alone
            .get("/goods")
            .header("prefer", "count=exact")
            .send()
            .await
            .unwrap();
        header(&told, "content-range") == Some("0-1/3")
    })
    .await;
}

#[tokio::test]
async fn an_embed_with_an_alias_is_best_meant_by_it() {
    let shop = shop("alone_aliases").await;
    let alone = shop.serve(shop.settings()).await;
    let by = |name: &str| format!("/goods?id=eq.1&select=id,places:shelves(id)&{name}.room=eq.attic&{name}.limit=1");
    let rows = json!([{ "id": 1, "places": [{ "id": 2 }] }]);
    let warned = alone.get(&by("shelves")).send().await.unwrap();
    let warning = header(&warned, "warning").unwrap().to_owned();
    assert!(warning.starts_with("299 PostgRESTv"), "{warning}");
    assert!(
        warning.contains("Update `shelves` to `places` in query string"),
        "{warning}"
    );
    assert_eq!(answer(warned).await, (StatusCode::OK, rows.clone()));
    let silent = alone.get(&by("places")).send().await.unwrap();
    assert_eq!(header(&silent, "warning"), None);
    assert_eq!(answer(silent).await, (StatusCode::OK, rows.clone()));
    // Whether there are rows, and their order, is only ever asked by the alias.
    let (status, error) = alone
        .answer("/shelves?select=id,thing:goods(name)&order=goods(name)")
        .await;
    assert_eq!((status, &error["code"]), (StatusCode::BAD_REQUEST, &json!("PGRST108")));
    let (_, error) = alone
        .answer("/shelves?select=id,thing:goods(name)&goods=not.is.null")
        .await;
    assert_eq!(error["code"], "42703");

    let strict = shop
        .serve(Settings {
            url_use_legacy_target_names: false,
            ..shop.settings()
        })
        .await;
    assert_eq!(strict.answer(&by("places")).await, (StatusCode::OK, rows));
    let (status, error) = strict.answer(&by("shelves")).await;
    assert_eq!(
        (status, error),
        (
            StatusCode::BAD_REQUEST,
            json!({
                "code": "PGRST108",
                "message": "'shelves' is not an embedded resource in this request",
                "details": "Target names are not allowed in filters if they have an alias",
                "hint": "Change 'shelves' to 'places' in filters, orders or limits.",
            })
        )
    );
    // The same relation twice: each is meant by its own name.
    let both = "/goods?id=eq.1&select=places:shelves(id),shelves(id)&shelves.room=eq.cellar&places.room=eq.attic";
    assert_eq!(
        strict.answer(both).await.1,
        json!([{ "places": [{ "id": 2 }], "shelves": [{ "id": 1 }] }])
    );
}

#[tokio::test]
async fn names_that_are_nearly_right_are_recognised() {
    let shop = shop("alone_hints").await;
    shop.run(
        "create schema hidden;
         create table shop.left_ends (id int primary key);
         create table shop.right_ends (id int primary key);
         create table hidden.middles (
           l int references shop.left_ends, r int references shop.right_ends, primary key (l, r)
         );",
    )
    .await;
    let alone = shop.serve(shop.settings()).await;
    let hint = async |path: &str| alone.answer(path).await.1["hint"].clone();
    for (path, expected) in [
        ("/shelve", json!("Perhaps you meant the table 'shop.shelves'")),
        ("/GOODS", json!("Perhaps you meant the table 'shop.goods'")),
        ("/ledgers", Value::Null),
        (
            "/rpc/cheapes",
            json!("Perhaps you meant to call the function shop.cheapest"),
        ),
        (
            "/rpc/cheap_list",
            json!("Perhaps you meant to call the function shop.cheapest"),
        ),
        ("/rpc/inventory", Value::Null),
        (
            "/goods?select=shelfs(*)",
            json!("Perhaps you meant 'shelves' instead of 'shelfs'."),
        ),
        ("/goods?select=tills(*)", Value::Null),
        // It has no relationship, so it cannot have been meant.
        (
            "/good_notes?select=shelves(*)",
            json!("Perhaps you meant 'goods' instead of 'good_notes'."),
        ),
        // They are related, but through what nobody may see.
        ("/left_ends?select=right_ends(*)", Value::Null),
    ] {
        assert_eq!(hint(path).await, expected, "{path}");
    }
}
