//! The product's schema (`supabase/migrations`), moved by refinery; one ledger, the Supabase CLI's.
