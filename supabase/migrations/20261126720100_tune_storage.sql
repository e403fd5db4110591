-- Purpose: years of history do not slow down what happens now: room in the pages for rows that change every few seconds, and a
-- vacuum that follows what changes instead of how much is kept.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

-- A deployment renews its lease every 3 s and writes a line now and then, on a row of about 1.5 kB. Without room in its page
-- each of these moves the row and writes to every index anew. Measured with 20 renewals and 2 lines a deployment, a hundred
-- at a time, 22 updates that need no index: 11 % of them stayed in their page (HOT) at fillfactor 100, 37 % at 85, 83 % at 75,
-- 99 % at 65. 70 costs a third more pages.
--
-- Vacuum by default waits until a fifth of the table has changed: of a million rows 200,000, each of which has left dead
-- entries at the front of the claim's index, which every claim steps over. A hundredth is 10,000; a vacuum reads only the pages
-- that changed, and the indexes. New rows count too, so that what looks for the newest revision reads the index alone.
alter table osp_metadata.worker_registry set (
  fillfactor = 70,
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = 1000,
  autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 1000
);

-- Taken, released and enqueued on the same rows, again and again, behind an index of those that wait: like the registry.
-- No parallel workers: of `revision > enqueued_revision` the planner believes that a third of all rows satisfy it, and starts
-- them, which takes longer than reading the few that do.
alter table osp_metadata.service_intents set (
  fillfactor = 80, parallel_workers = 0,
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
  autovacuum_analyze_scale_factor = 0.05, autovacuum_analyze_threshold = 1000
);

-- Written at its end alone: a row changes a few times soon after it was made, and never again.
alter table osp_metadata.deployment_attempts set (
  fillfactor = 90,
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_insert_threshold = 1000
);
