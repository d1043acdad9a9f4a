//! Parts of Supabase's API that this server has not: each says so at once, in words a client understands.

use axum::{Router, http::StatusCode, routing::any};

use super::{Auth, error::Error};

/// The routes that answer "not here".
pub fn router() -> Router<Auth> {
    let mail = || async {
        off(
            "feature_disabled",
            StatusCode::UNPROCESSABLE_ENTITY,
            "This server sends no mail",
        )
    };
    let factors = || async {
        let message = "Multi-factor authentication is not available on this server";
        off("feature_disabled", StatusCode::UNPROCESSABLE_ENTITY, message)
    };
    let linking = || async {
        off(
            "manual_linking_disabled",
            StatusCode::NOT_FOUND,
            "Manual linking is disabled",
        )
    };
    let provider = || async { Error::validation("Unsupported provider: provider is not enabled") };
    let saml = || async { off("saml_provider_disabled", StatusCode::NOT_FOUND, "SAML 2.0 is disabled") };
    let passkeys = || async { off("passkey_disabled", StatusCode::NOT_FOUND, "Passkeys are disabled") };
    let oauth = || async {
        off(
            "feature_disabled",
            StatusCode::NOT_FOUND,
            "OAuth server is not available on this server",
        )
    };
    Router::new()
        .route("/recover", any(mail))
        .route("/otp", any(mail))
        .route("/magiclink", any(mail))
        .route("/resend", any(mail))
        .route("/reauthenticate", any(mail))
        .route("/invite", any(mail))
        .route("/factors", any(factors))
        .route("/factors/{*rest}", any(factors))
        .route("/user/identities/{*rest}", any(linking))
        .route("/authorize", any(provider))
        .route("/callback", any(provider))
        .route("/sso", any(saml))
        .route("/sso/{*rest}", any(saml))
        .route("/passkeys/{*rest}", any(passkeys))
        .route("/oauth/{*rest}", any(oauth))
        .route("/admin/oauth/{*rest}", any(oauth))
        .route("/admin/custom-providers", any(oauth))
}

fn off(code: &'static str, status: StatusCode, message: &'static str) -> Error {
    Error::Disabled { code, status, message }
}
