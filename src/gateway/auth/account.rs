//! `GET` and `PUT /user`: one's own account.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;

use super::{
    Auth, address,
    audit::{self, Action},
    bearer::SignedIn,
    error::{Error, Result},
    password, pkce,
    request::{Body, Object, Origin, non_empty},
    session::{self, Ending},
    user::{self, Change, User},
};

/// Shows who is signed in.
pub async fn show(me: SignedIn, headers: HeaderMap) -> Result<Json<User>> {
    me.check_audience(&headers)?;
    Ok(Json(me.user))
}

#[derive(Deserialize)]
pub struct Request {
    #[serde(default, deserialize_with = "non_empty")]
    email: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    phone: Option<String>,
    password: Option<String>,
    #[serde(default, deserialize_with = "non_empty")]
    current_password: Option<String>,
    data: Option<Object>,
    app_metadata: Option<Object>,
    #[serde(flatten)]
    challenge: pkce::Challenge,
}

/// Changes one's own account. A new e-mail address holds at once, as one given at sign-up does: this server sends no
/// mail to prove it by.
pub async fn update(
    State(auth): State<Auth>,
    me: SignedIn,
    origin: Origin,
    Body(request): Body<Request>,
) -> Result<Json<User>> {
    request.challenge.check()?;
    let email = request.email.as_deref().map(address::email).transpose()?;
    let email = email.filter(|email| *email != me.user.email);
    if request
        .phone
        .is_some_and(|phone| phone.trim_start_matches('+') != me.user.phone)
    {
        return Err(Error::PhoneDisabled(StatusCode::UNPROCESSABLE_ENTITY));
    }
    if let Some(password) = &request.password {
        password::check(password, auth.settings.min_password_length)?;
    }
    if request.app_metadata.is_some() && !me.is_admin() {
        return Err(Error::NotAdmin("Updating app_metadata requires admin privileges"));
    }
    let address_or_password = email.is_some() || request.password.is_some();
    if address_or_password && me.user.has_factor() && !me.is_aal2() {
        return Err(Error::InsufficientAal);
    }
    if address_or_password && me.user.is_sso_user {
        return Err(Error::SsoManaged);
    }
    if request.password.is_some() && me.user.is_anonymous && email.is_none() {
        let message = "Updating password of an anonymous user without an email or phone is not allowed";
        return Err(Error::Unprocessable(message.into()));
    }
    if let Some(email) = &email
        && user::by_email(&auth.pool, email, &me.user.aud)
            .await?
            .is_some_and(|(user, _)| user.id != me.user.id)
    {
        return Err(Error::EmailExists);
    }
    let password_hash = match request.password {
        Some(new) => Some(new_hash(&auth, &me, new, request.current_password).await?),
        None => None,
    };
    let new_password = password_hash.is_some();
    let change = Change {
        confirm_email: email.is_some(),
        email,
        password_hash,
        app_metadata: request.app_metadata,
        user_metadata: request.data,
        ..Change::default()
    };
    let failed = || Error::database("Error updating user");
    let mut transaction = auth.pool.begin().await.map_err(failed())?;
    change.apply(&mut transaction, me.user.id).await?;
    if new_password {
        session::end(
            &mut transaction,
            me.user.id,
            me.session.map_or(Ending::All, Ending::Others),
        )
        .await?;
        audit::record(&mut transaction, Action::PasswordUpdated, Some(&me.user), &origin).await?;
    }
    audit::record(&mut transaction, Action::Modified, Some(&me.user), &origin).await?;
    let (user, _) = user::by_id(&mut *transaction, me.user.id)
        .await?
        .ok_or(Error::UserGone)?;
    transaction.commit().await.map_err(failed())?;
    Ok(Json(user))
}

/// The hash of a new password that is none of the old ones.
async fn new_hash(auth: &Auth, me: &SignedIn, new: String, current: Option<String>) -> Result<String> {
    if let Some(current) = current
        && !auth.passwords.matches(current, me.password_hash.clone()).await?
    {
        return Err(Error::CurrentPassword);
    }
    if me.password_hash.is_some() && auth.passwords.matches(new.clone(), me.password_hash.clone()).await? {
        return Err(Error::SamePassword);
    }
    auth.passwords.hash(new).await
}
