//! `/verify`: a session for a one-time code, by a program (`POST`) or by a link that a browser follows (`GET`).

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use url::form_urlencoded;

use super::{
    Auth,
    error::{Error, Result},
    one_time::{self, Purpose},
    request::{Body, Origin, Query, non_empty},
    session::{Method, Tokens},
};

#[derive(Deserialize)]
pub struct Request {
    #[serde(default)]
    r#type: String,
    #[serde(default, deserialize_with = "non_empty")]
    email: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    token: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    token_hash: Option<String>,
}

/// Redeems a code that was typed with its address, or the hash of one.
pub async fn redeem(State(auth): State<Auth>, origin: Origin, Body(request): Body<Request>) -> Result<Tokens> {
    let wrong = "Token has expired or is invalid";
    let (hash, wrong) = match (request.token_hash, request.email, request.token) {
        (Some(hash), None, None) => (hash, EXPIRED_LINK),
        (Some(_), _, _) => return Err(Error::validation("Only the token_hash and type should be provided")),
        (None, Some(email), Some(token)) => (one_time::hash(&email, &token), wrong),
        _ => {
            let message = "Verify requires either a token or a token hash, and a token its email address";
            return Err(Error::validation(message));
        }
    };
    sign_in(&auth, &origin, &hash, &request.r#type, wrong).await
}

const EXPIRED_LINK: &str = "Email link is invalid or has expired";

async fn sign_in(auth: &Auth, origin: &Origin, hash: &str, purpose: &str, wrong: &'static str) -> Result<Tokens> {
    let purposes = match (purpose, Purpose::named(purpose)) {
        (_, Some(purpose)) => vec![purpose],
        ("email", _) => vec![Purpose::Signup, Purpose::Magiclink],
        // kinds of codes that are never given here
        ("email_change" | "sms" | "phone_change", _) => return Err(Error::OtpExpired(wrong)),
        _ => return Err(Error::validation("Verify requires a verification type")),
    };
    let failed = || Error::database("Database error verifying user");
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    let redeemed = one_time::redeem(&mut transaction, hash, &purposes, auth.settings.code_lifetime).await?;
    let redeemed = redeemed.ok_or(Error::OtpExpired(wrong))?;
    if redeemed.banned {
        return Err(Error::Banned(StatusCode::FORBIDDEN));
    }
    let tokens = auth
        .start_session(&mut transaction, redeemed.user, Method::Otp, origin)
        .await?;
    transaction.commit().await.map_err(failed())?;
    Ok(tokens)
}

#[derive(Deserialize)]
pub struct Link {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    token: String,
    #[serde(default)]
    redirect_to: String,
}

/// Redeems the code of a link and sends the browser on: with the tokens, or with what went wrong, in the fragment,
/// which no server sees.
pub async fn follow(
    State(auth): State<Auth>,
    origin: Origin,
    headers: HeaderMap,
    Query(link): Query<Link>,
) -> Result<Response> {
    let referer = headers.get(header::REFERER).and_then(|value| value.to_str().ok());
    let mut target = auth
        .destinations
        .choose([link.redirect_to.as_str()].into_iter().chain(referer));
    let outcome = sign_in(&auth, &origin, &link.token, &link.r#type, EXPIRED_LINK).await;
    let mut fragment = form_urlencoded::Serializer::new(String::new());
    match outcome {
        Ok(tokens) => {
            let (expires_at, expires_in) = (tokens.expires_at.to_string(), tokens.expires_in.to_string());
            fragment.extend_pairs([
                ("access_token", tokens.access_token.as_str()),
                ("expires_at", &expires_at),
                ("expires_in", &expires_in),
                ("refresh_token", &tokens.refresh_token),
                ("sb", ""),
                ("token_type", tokens.token_type),
                ("type", &link.r#type),
            ]);
        }
        Err(error) => {
            let (status, code) = error.status_and_code();
            if status.is_server_error() {
                // nothing a browser can show; it is logged on the way out
                return Err(error);
            }
            let kind = if status == StatusCode::FORBIDDEN {
                "access_denied"
            } else {
                "invalid_request"
            };
            fragment.extend_pairs([
                ("error", kind),
                ("error_code", code),
                ("error_description", &error.to_string()),
                ("sb", ""),
            ]);
        }
    }
    target.set_fragment(Some(&fragment.finish()));
    let location = HeaderValue::try_from(String::from(target)).map_err(Error::unexpected)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}
