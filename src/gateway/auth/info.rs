//! What the service says about itself.

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::Auth;

/// Providers a client may ask about; none of them is here.
const ELSEWHERE: [&str; 22] = [
    "apple",
    "azure",
    "bitbucket",
    "discord",
    "facebook",
    "figma",
    "fly",
    "github",
    "gitlab",
    "google",
    "kakao",
    "keycloak",
    "linkedin",
    "linkedin_oidc",
    "notion",
    "slack",
    "slack_oidc",
    "snapchat",
    "spotify",
    "twitch",
    "twitter",
    "workos",
];

/// `GET /settings`: what a login form may offer.
pub async fn settings(State(auth): State<Auth>) -> Json<Value> {
    let mut external: Value = ELSEWHERE
        .iter()
        .map(|name| ((*name).to_owned(), Value::Bool(false)))
        .collect();
    external["zoom"] = false.into();
    external["phone"] = false.into();
    external["email"] = true.into();
    external["anonymous_users"] = auth.settings.anonymous.into();
    Json(json!({
        "external": external,
        "disable_signup": !auth.settings.signup,
        "mailer_autoconfirm": true,
        "phone_autoconfirm": false,
        "sms_provider": "",
        "saml_enabled": false,
        "saml_private_key_next_configured": false,
        "passkeys_enabled": false,
    }))
}

/// `GET /health`: that the service answers. Clients compare the name, which is Supabase's.
pub async fn health() -> Json<Value> {
    Json(json!({
        "version": concat!("v", env!("CARGO_PKG_VERSION")),
        "name": "GoTrue",
        "description": "Switchboard's users and sessions, by Supabase's auth API",
    }))
}

/// `GET /.well-known/jwks.json`: public keys. Tokens are signed with a shared secret, so there is none to show.
pub async fn jwks() -> Response {
    let cache = [(header::CACHE_CONTROL, "public, max-age=600")];
    (cache, Json(json!({ "keys": [] }))).into_response()
}

/// `GET /.well-known/openid-configuration`: where the rest is.
pub async fn openid(State(auth): State<Auth>) -> Json<Value> {
    let issuer = &auth.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "userinfo_endpoint": format!("{issuer}/user"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["HS256"],
    }))
}
