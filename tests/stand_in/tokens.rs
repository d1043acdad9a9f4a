//! Tokens of others: by their keys, with the role where they put it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};

use super::*;

pub const SECRET: &str = "a secret that both of us know, thirty-two bytes";

pub fn token(claims: &Value, secret: &str, kid: Option<&str>) -> String {
    let header = Header {
        kid: kid.map(str::to_owned),
        ..Header::new(Algorithm::HS256)
    };
    encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

async fn with(alone: &Alone, token: &str) -> (StatusCode, Value, BTreeMap<String, String>) {
    let response = alone.get("/rpc/me").bearer_auth(token).send().await.unwrap();
    let headers = response.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let headers = headers.collect();
    let (status, body) = answer(response).await;
    (status, body, headers)
}

async fn shop(name: &str) -> Shop {
    let shop = Shop::new(name).await;
    shop.run(&format!(
        "create function shop.me() returns text language sql stable as 'select current_user';
         create role {name}_clerk;
         grant {name}_clerk to {name};
         grant usage on schema shop to {name}_clerk;"
    ))
    .await;
    shop
}

#[tokio::test]
async fn the_role_is_where_the_settings_say_and_refusals_say_why() {
    let shop = shop("alone_tokens").await;
    let mut settings = shop.settings();
    settings.set("jwt_secret", SECRET).unwrap();
    settings
        .set("jwt_role_claim_key", ".app.roles[?(@ ==^ \"_clerk\")]")
        .unwrap();
    let alone = shop.serve(settings).await;
    let clerk = json!({ "app": { "roles": ["guest", "alone_tokens_clerk"] } });
    assert_eq!(with(&alone, &token(&clerk, SECRET, None)).await.1, "alone_tokens_clerk");
    let nobody = json!({ "role": "alone_tokens_clerk" });
    assert_eq!(
        with(&alone, &token(&nobody, SECRET, None)).await.1,
        "alone_tokens_guest"
    );

    let unsigned = format!("{}.e30.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
    let not_claims = token(&json!([1]), SECRET, None);
    for (token, code, message, details) in [
        (
            token(&clerk, "somebody else's secret, as long as ours is", None),
            "PGRST301",
            "No suitable key or wrong key type",
            json!("None of the keys was able to decode the JWT"),
        ),
        (
            unsigned,
            "PGRST301",
            "Wrong or unsupported encoding algorithm",
            json!("JWT is unsecured but expected 'alg' was not 'none'"),
        ),
        (
            "a.b.c".to_owned(),
            "PGRST301",
            "JWT cryptographic operation failed",
            Value::Null,
        ),
        (
            "a.b".to_owned(),
            "PGRST301",
            "Expected 3 parts in JWT; got 2",
            Value::Null,
        ),
        (
            String::new(),
            "PGRST301",
            "Empty JWT is sent in Authorization header",
            Value::Null,
        ),
        (not_claims, "PGRST303", "Parsing claims failed", Value::Null),
        (
            token(&json!({ "exp": 1 }), SECRET, None),
            "PGRST303",
            "JWT expired",
            Value::Null,
        ),
    ] {
        let (status, error, headers) = with(&alone, &token).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{error}");
        assert_eq!(
            error,
            json!({ "code": code, "message": message, "details": details, "hint": null })
        );
        let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{message}\"");
        assert_eq!(headers["www-authenticate"], challenge);
    }
}

#[tokio::test]
async fn a_set_of_keys_is_tried_by_name() {
    let shop = shop("alone_keys").await;
    let (one, other) = (SECRET, "another secret, of somebody else's, as long as that");
    let key =
        |name: &str, secret: &str| json!({ "kty": "oct", "kid": name, "k": BASE64_URL_SAFE_NO_PAD.encode(secret) });
    let keys = json!({ "keys": [key("one", one), key("other", other)] });
    let mut settings = shop.settings();
    settings.set("jwt_secret", &keys.to_string()).unwrap();
    let alone = shop.serve(settings).await;
    let clerk = json!({ "role": "alone_keys_clerk" });
    for (secret, kid, passes) in [
        (one, Some("one"), true),
        (other, Some("other"), true),
        (other, None, true),
        (other, Some("one"), false),
        (one, Some("third"), false),
    ] {
        let (status, _, _) = with(&alone, &token(&clerk, secret, kid)).await;
        assert_eq!(status.is_success(), passes, "{kid:?}");
    }
}

#[tokio::test]
async fn without_a_secret_no_token_is_read_and_without_a_guest_nobody_is_let_in() {
    let shop = shop("alone_closed").await;
    let alone = shop
        .serve(Settings {
            db_anon_role: None,
            ..shop.settings()
        })
        .await;
    let (status, error, _) = with(&alone, &token(&json!({}), SECRET, None)).await;
    assert_eq!(
        (status, &error["code"]),
        (StatusCode::INTERNAL_SERVER_ERROR, &json!("PGRST300"))
    );
    let (status, error) = alone.answer("/goods").await;
    assert_eq!((status, &error["code"]), (StatusCode::UNAUTHORIZED, &json!("PGRST302")));
}

#[tokio::test]
async fn a_bad_token_is_refused_before_anything_else_is_looked_at() {
    let shop = shop("alone_early").await;
    let mut settings = shop.settings();
    settings.set("jwt_secret", SECRET).unwrap();
    settings.max_body = 1 << 20;
    let alone = shop.serve(settings.clone()).await;
    let bad = token(&json!({}), "somebody else's secret, as long as ours is", None);
    // All of it is taken, so that the answer arrives, but none of it is kept.
    for bytes in [1 << 20, (1 << 20) + 1] {
        let post = alone
            .client
            .post(format!("{}/nowhere", alone.url))
            .body(vec![b' '; bytes]);
        let (status, error) = answer(post.bearer_auth(&bad).send().await.unwrap()).await;
        assert_eq!((status, &error["code"]), (StatusCode::UNAUTHORIZED, &json!("PGRST301")));
    }

    let nowhere = Database::from_url("postgres://nobody@127.0.0.1:1/none")
        .unwrap()
        .as_given();
    let place = Place {
        database: nowhere,
        verifier: None,
        public_url: String::new(),
        shutdown: Shutdown::default(),
        health: Health::default(),
    };
    let service = rest::Alone::start(place.clone(), settings.clone()).unwrap();
    let ask = async |token: Option<&str>| {
        let mut request = axum::http::Request::get("/goods");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        tower::ServiceExt::oneshot(service.clone(), request)
            .await
            .unwrap()
            .status()
    };
    assert_eq!(ask(Some(&bad)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(None).await, StatusCode::SERVICE_UNAVAILABLE);
    settings.set("jwt_secret", "{").unwrap();
    assert!(
        rest::Alone::start(place, settings).is_err(),
        "a secret that is none is told of at once"
    );
}
