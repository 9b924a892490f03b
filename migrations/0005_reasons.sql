ALTER TABLE `outcomes` ADD `reason` text;--> statement-breakpoint
ALTER TABLE `tasks` ADD `paused_because` text;