ALTER TABLE `device_modules` ADD `product_id` text;--> statement-breakpoint
ALTER TABLE `upgrades` ADD `assumed_version` text;--> statement-breakpoint
ALTER TABLE `upgrades` ADD `is_unknown` integer;--> statement-breakpoint
-- What earlier releases left uncertain: upgrades with an unknown end, and Successes that no report has confirmed.
UPDATE upgrades SET is_unknown = 1 WHERE doubt_version IS NOT NULL;--> statement-breakpoint
UPDATE upgrades SET assumed_version = target_version
WHERE active = 0 AND succeeded_task_id = task_id AND NOT EXISTS (
  SELECT 1 FROM device_modules m
  WHERE m.device_id = upgrades.device_id AND m.module = upgrades.module AND m.version = upgrades.target_version);--> statement-breakpoint
-- The newer of two tasks is the later created, whenever it starts.
UPDATE tasks SET rank = printf('%014d', created_at) || '.' || id;--> statement-breakpoint
UPDATE upgrades SET
  rank = coalesce((SELECT t.rank FROM tasks t WHERE t.id = task_id), rank),
  succeeded_rank = coalesce((SELECT t.rank FROM tasks t WHERE t.id = succeeded_task_id), succeeded_rank),
  waiting_rank = coalesce((SELECT t.rank FROM tasks t WHERE t.id = waiting_task_id), waiting_rank);
