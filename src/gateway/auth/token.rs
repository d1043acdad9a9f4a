//! `POST /token`: a session for a password, new tokens for a refresh token.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Auth,
    audit::{self, Action},
    error::{Error, Result},
    password,
    request::{self, Body, Origin, Query, non_empty},
    session::{Method, REFRESH_TOKEN_LENGTH, Tokens, WeakPassword, refresh_token},
    user,
};

#[derive(Deserialize)]
pub struct Grant {
    #[serde(default)]
    grant_type: String,
}

/// Issues tokens, by the grant that the query names.
pub async fn token(
    State(auth): State<Auth>,
    Query(Grant { grant_type }): Query<Grant>,
    origin: Origin,
    headers: HeaderMap,
    Body(shown): Body<Shown>,
) -> Result<Response> {
    match grant_type.as_str() {
        "password" => {
            let audience = request::audience(&headers).unwrap_or(super::AUDIENCE);
            let tokens = by_password(&auth, &origin, audience, shown).await?;
            Ok(tokens.into_response())
        }
        "refresh_token" => by_refresh_token(&auth, &origin, shown).await,
        // redeems what a provider or a mail brought, and here neither does
        "pkce" => Err(Error::FlowStateNotFound),
        _ => Err(Error::GrantType),
    }
}

/// What a client has to show, by the grant.
#[derive(Deserialize)]
pub struct Shown {
    #[serde(default, deserialize_with = "non_empty")]
    email: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    phone: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    refresh_token: Option<String>,
}

async fn by_password(auth: &Auth, origin: &Origin, audience: &str, shown: Shown) -> Result<Tokens> {
    let email = match (shown.email, shown.phone) {
        (Some(_), Some(_)) => {
            let message = "Only an email address or phone number should be provided on login.";
            return Err(Error::validation(message));
        }
        (None, Some(_)) => return Err(Error::PhoneDisabled(StatusCode::UNPROCESSABLE_ENTITY)),
        (None, None) => return Err(Error::validation("missing email or phone")),
        (Some(email), None) => email,
    };
    let password = shown.password.unwrap_or_default();
    let weak = password::check(&password, auth.settings.min_password_length);
    let (user, hash) = user::by_email(&auth.pool, &email, audience).await?.unzip();
    let hash = hash.flatten();
    if !auth.passwords.matches(password, hash.clone()).await? {
        return Err(Error::Credentials);
    }
    let (Some(user), Some(hash)) = (user, hash) else {
        return Err(Error::Credentials);
    };
    if user.banned {
        return Err(Error::Banned(StatusCode::BAD_REQUEST));
    }
    if user.email_confirmed_at.is_none() {
        return Err(Error::EmailNotConfirmed);
    }
    let failed = || Error::database("Database error granting user");
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    let mut tokens = auth
        .start_session(&mut transaction, user.id, Method::Password(&hash), origin)
        .await?;
    transaction.commit().await.map_err(failed())?;
    if let Err(Error::WeakPassword { message, reasons }) = weak {
        tokens.weak_password = Some(WeakPassword { message, reasons });
    }
    Ok(tokens)
}

async fn by_refresh_token(auth: &Auth, origin: &Origin, shown: Shown) -> Result<Response> {
    let presented = shown.refresh_token.ok_or(Error::NoRefreshToken)?;
    if !is_refresh_token(&presented) {
        return Err(Error::validation("Refresh token is not valid"));
    }
    let failed = || Error::database("Database error granting user");
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    let held: Option<(Uuid, Uuid, bool, bool)> =
        sqlx::query_as(include_str!("../../../sql/gateway/auth_refresh_lock.sql"))
            .bind(&presented)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed())?;
    let Some((session, user, expired, banned)) = held else {
        let orphaned = sqlx::query_scalar("select exists (select from refresh_tokens where token = $1)")
            .bind(&presented)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed())?;
        return Err(if orphaned {
            Error::RefreshTokenOrphaned
        } else {
            Error::RefreshTokenNotFound
        });
    };
    if banned {
        return Err(Error::Banned(StatusCode::BAD_REQUEST));
    }
    if expired {
        return Err(Error::SessionExpired(StatusCode::BAD_REQUEST));
    }
    let (issued, repeated): (Option<String>, bool) =
        sqlx::query_as(include_str!("../../../sql/gateway/auth_refresh.sql"))
            .bind(&presented)
            .bind(refresh_token())
            .bind(f64::from(auth.settings.refresh_reuse))
            .bind(&origin.user_agent)
            .bind(&origin.ip)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed())?;
    let Some(issued) = issued else {
        // The end of the family stays, whatever the client makes of the answer.
        transaction.commit().await.map_err(failed())?;
        return Err(Error::RefreshTokenUsed);
    };
    let prefix: String = issued.chars().take(5).collect();
    let tokens = auth.tokens(&mut transaction, user, session, issued).await?;
    audit::record(&mut transaction, Action::TokenRefreshed, Some(&tokens.user), origin).await?;
    transaction.commit().await.map_err(failed())?;
    let mut response = tokens.into_response();
    let headers = response.headers_mut();
    if let Ok(prefix) = HeaderValue::try_from(prefix) {
        headers.insert(HeaderName::from_static("sb-auth-refresh-token-prefix"), prefix);
    }
    let reuse = if repeated { "true" } else { "false" };
    headers.insert(
        HeaderName::from_static("sb-auth-refresh-token-reuse"),
        HeaderValue::from_static(reuse),
    );
    Ok(response)
}

/// Whether a text could be a refresh token: one of ours, or the longer kind of newer Supabase projects, which a
/// database that moved here may still have clients of (they sign in again).
fn is_refresh_token(text: &str) -> bool {
    let own = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let longer = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match text.len() {
        REFRESH_TOKEN_LENGTH => text.bytes().all(own),
        length => length > REFRESH_TOKEN_LENGTH && length <= 255 && text.bytes().all(longer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_be_a_refresh_token_is_looked_up() {
        assert!(is_refresh_token(&refresh_token()));
        assert!(is_refresh_token("AAECAwQFBgcICQoLDA0ODxAB-_"));
        assert!(!is_refresh_token("abc"));
        assert!(!is_refresh_token("ABCDEFGHIJKL"));
        assert!(!is_refresh_token("not a token at all"));
    }
}
