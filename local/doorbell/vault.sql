-- Purpose: a stand-in for Supabase's Vault on a Postgres that does not offer it: the same names, for one's own machine.
-- IT ENCRYPTS NOTHING: `secret` is the value itself. Part of the local stack, never a migration.

do $$
begin
  if exists (select from pg_catalog.pg_available_extensions where name = 'supabase_vault') then
    raise exception 'This Postgres offers the real Vault: secrets belong there'
      using hint = 'create extension supabase_vault; the stand-in is for a Postgres without it.';
  end if;
end;
$$;

create schema if not exists vault;
comment on schema vault is 'Stand-in for Supabase Vault: keeps secrets in the clear, readable by its owner alone.';

create table if not exists vault.secrets (
  id uuid primary key default gen_random_uuid(),
  name text,
  description text not null default '',
  secret text not null,
  key_id uuid,
  nonce bytea,
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null default current_timestamp
);
comment on column vault.secrets.secret is 'The value, not encrypted: this is a stand-in.';
create unique index if not exists secrets_name_idx on vault.secrets (name) where name is not null;

create or replace view vault.decrypted_secrets as
select id, name, description, secret, secret as decrypted_secret, key_id, nonce, created_at, updated_at
from vault.secrets;

create or replace function vault.create_secret(
  new_secret text, new_name text default null, new_description text default '', new_key_id uuid default null
)
returns uuid language sql
set search_path = ''
as $$
  insert into vault.secrets (secret, name, description, key_id)
  values (new_secret, new_name, new_description, new_key_id)
  returning id;
$$;

create or replace function vault.update_secret(
  secret_id uuid, new_secret text default null, new_name text default null, new_description text default null,
  new_key_id uuid default null
)
returns void language sql
set search_path = ''
as $$
  update vault.secrets
  set
    secret = coalesce(new_secret, secret),
    name = coalesce(new_name, name),
    description = coalesce(new_description, description),
    key_id = coalesce(new_key_id, key_id),
    updated_at = current_timestamp
  where id = secret_id;
$$;

-- On Supabase service_role may read the Vault as well; nothing of ours needs it.
revoke all on schema vault from public;
revoke all on vault.secrets, vault.decrypted_secrets from public;
revoke all on function vault.create_secret, vault.update_secret from public;
