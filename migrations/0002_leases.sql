ALTER TABLE `device_modules` ADD `hub` text;--> statement-breakpoint
ALTER TABLE `device_modules` ADD `lease` integer;