//! `POST /signup`: new users, with an address or without one.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Auth, address,
    audit::{self, Action},
    error::{Error, Result},
    password, pkce,
    request::{self, Body, Object, Origin, non_empty},
    session::{Method, Tokens},
    user::{self, NewUser},
};

#[derive(Deserialize)]
pub struct Request {
    #[serde(default, deserialize_with = "non_empty")]
    email: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    phone: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    password: Option<String>,
    data: Option<Object>,
    #[serde(flatten)]
    challenge: pkce::Challenge,
}

/// Signs somebody up and in: addresses count as confirmed, for this server sends no mail.
pub async fn sign_up(
    State(auth): State<Auth>,
    origin: Origin,
    headers: HeaderMap,
    Body(request): Body<Request>,
) -> Result<Tokens> {
    if !auth.settings.signup {
        return Err(Error::SignupDisabled);
    }
    let audience = request::audience(&headers).unwrap_or(super::AUDIENCE);
    let data = request.data.unwrap_or_default();
    let (email, password) = match (request.email, request.phone, request.password) {
        (None, None, _) => return anonymous(&auth, &origin, audience, data).await,
        (_, _, None) => return Err(Error::validation("Signup requires a valid password")),
        (Some(_), Some(_), _) => {
            let message = "Only an email address or phone number should be provided on signup.";
            return Err(Error::validation(message));
        }
        (None, Some(_), _) => return Err(Error::PhoneDisabled(StatusCode::BAD_REQUEST)),
        (Some(email), None, Some(password)) => (email, password),
    };
    request.challenge.check()?;
    password::check(&password, auth.settings.min_password_length)?;
    let email = address::email(&email)?;
    // Spares the work of hashing; two sign-ups at once meet at the constraint. Whoever has the address, confirmed or
    // not, keeps it: a session for somebody who merely names it would be a theft.
    if user::by_email(&auth.pool, &email, audience).await?.is_some() {
        return Err(Error::UserExists);
    }
    let mut new = NewUser::of(audience);
    let known = Object::from_iter([
        ("sub".to_owned(), json!(new.id)),
        ("email".to_owned(), json!(email)),
        ("email_verified".to_owned(), json!(true)),
        ("phone_verified".to_owned(), json!(false)),
    ]);
    new.user_metadata = data.clone().into_iter().chain(known).collect();
    new.identity_data = data;
    new.email = Some(email);
    new.email_confirmed = true;
    let hash = auth.passwords.hash(password).await?;
    new.password_hash = Some(hash.clone());
    create(&auth, new, Method::Password(&hash), &origin)
        .await
        .map_err(|error| match error {
            Error::EmailExists => Error::UserExists,
            error => error,
        })
}

async fn anonymous(auth: &Auth, origin: &Origin, audience: &str, data: Object) -> Result<Tokens> {
    if !auth.settings.anonymous {
        return Err(Error::AnonymousDisabled);
    }
    let mut new = NewUser::of(audience);
    new.user_metadata = data;
    create(auth, new, Method::Anonymous, origin).await
}

async fn create(auth: &Auth, new: NewUser, method: Method<'_>, origin: &Origin) -> Result<Tokens> {
    let failed = || Error::database("Database error saving new user");
    let id = new.id;
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    new.create(&mut transaction).await?;
    let tokens = auth.start_session(&mut transaction, id, method, origin).await?;
    audit::record(&mut transaction, Action::SignedUp, Some(&tokens.user), origin).await?;
    transaction.commit().await.map_err(failed())?;
    Ok(tokens)
}
