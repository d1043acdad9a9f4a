//! What a Supabase project has and a bare Postgres lacks (`sql/platform`).
