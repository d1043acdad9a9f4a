//! The functions by which policies read the caller's claims, known by what the platform installed.

/// Which claim a function of schema `auth` gives, if its source is the one we know; the claims as a whole are at no
/// place in particular. `auth.jwt()` is one of them, and what is taken from it is a claim again.
pub fn claim(name: &str, source: &str) -> Option<&'static [&'static str]> {
    let (known, place): (&str, &[&str]) = match name {
        "auth.uid" => (
            "RETURN (COALESCE(NULLIF(current_setting('request.jwt.claim.sub'::text, true), ''::text), \
             ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::jsonb ->> 'sub'::text)))::uuid",
            &["sub"],
        ),
        "auth.role" => (
            "RETURN COALESCE(NULLIF(current_setting('request.jwt.claim.role'::text, true), ''::text), \
             ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::jsonb ->> 'role'::text))",
            &["role"],
        ),
        "auth.email" => (
            "RETURN COALESCE(NULLIF(current_setting('request.jwt.claim.email'::text, true), ''::text), \
             ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::jsonb ->> 'email'::text))",
            &["email"],
        ),
        "auth.jwt" => (
            "RETURN (COALESCE(NULLIF(current_setting('request.jwt.claim'::text, true), ''::text), \
             NULLIF(current_setting('request.jwt.claims'::text, true), ''::text)))::jsonb",
            &[],
        ),
        _ => return None,
    };
    (source == known).then_some(place)
}
