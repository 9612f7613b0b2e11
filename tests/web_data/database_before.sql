-- what the program wrote before its tables became dataclasses
BEGIN TRANSACTION;
CREATE TABLE emotion_schema (id INTEGER NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (id));
INSERT INTO "emotion_schema" VALUES(1,1);
CREATE TABLE face_counts (day VARCHAR(10) NOT NULL, model_sha256 VARCHAR(64) NOT NULL, emotion
  TEXT NOT NULL, sure BOOLEAN NOT NULL, bucket SMALLINT NOT NULL, faces BIGINT NOT NULL,
  confidence_sum DOUBLE NOT NULL, PRIMARY KEY (day, model_sha256, emotion, sure, bucket));
INSERT INTO "face_counts" VALUES('2026-11-21','abababababababababababababababababababababababababababababababab','sad',1,5,1,0.5);
CREATE TABLE opinion_counts (day VARCHAR(10) NOT NULL, model_sha256 VARCHAR(64) NOT NULL, given
  TEXT NOT NULL, chosen TEXT NOT NULL, opinions BIGINT NOT NULL, PRIMARY KEY (day, model_sha256,
  given, chosen));
CREATE TABLE opinions (photo_id VARCHAR(22) NOT NULL, number INTEGER NOT NULL, given TEXT NOT
  NULL, chosen TEXT NOT NULL, model_sha256 VARCHAR(64) NOT NULL, said_s DOUBLE NOT NULL, kept TEXT
  NOT NULL, day VARCHAR(10) NOT NULL, PRIMARY KEY (photo_id, number));
INSERT INTO "opinions" VALUES('0000000000000000000001',1,'sad','angry','abababababababababababababababababababababababababababababababab',1795260000.0,'','2026-11-21');
CREATE TABLE photo_counts (day VARCHAR(10) NOT NULL, model_sha256 VARCHAR(64) NOT NULL, photos
  BIGINT NOT NULL, without_face BIGINT NOT NULL, PRIMARY KEY (day, model_sha256));
INSERT INTO "photo_counts" VALUES('2026-11-21','abababababababababababababababababababababababababababababababab',1,0);
CREATE TABLE photos (id VARCHAR(22) NOT NULL, set_id VARCHAR(22) NOT NULL, position INTEGER NOT
  NULL, visitor VARCHAR(64) NOT NULL, created_s DOUBLE NOT NULL, expires_s DOUBLE NOT NULL, faces
  INTEGER NOT NULL, emotions TEXT NOT NULL, problem TEXT NOT NULL, PRIMARY KEY (id));
INSERT INTO "photos" VALUES('0000000000000000000001','0000000000000000000900',1,'visitor',1795260000.0,1795263600.0,2,'sad,happy','');
CREATE TABLE video_counts (day VARCHAR(10) NOT NULL, model_sha256 VARCHAR(64) NOT NULL, videos
  BIGINT NOT NULL, without_face BIGINT NOT NULL, faces BIGINT NOT NULL, seconds DOUBLE NOT NULL,
  PRIMARY KEY (day, model_sha256));
INSERT INTO "video_counts" VALUES('2026-11-21','abababababababababababababababababababababababababababababababab',1,0,2,2.0);
CREATE TABLE videos (id VARCHAR(22) NOT NULL, visitor VARCHAR(64) NOT NULL, state VARCHAR(8) NOT
  NULL, created_s DOUBLE NOT NULL, expires_s DOUBLE NOT NULL, model_key TEXT NOT NULL, attempt
  VARCHAR(22) NOT NULL, attempts INTEGER NOT NULL, beat_s DOUBLE NOT NULL, progress TEXT NOT NULL,
  problem TEXT NOT NULL, faces INTEGER NOT NULL, emotions TEXT NOT NULL, PRIMARY KEY (id));
INSERT INTO "videos" VALUES('0000000000000000000002','visitor','waiting',1795260000.0,1795263600.0,'','',0,0.0,'','',0,'');
CREATE INDEX ix_photos_visitor ON photos (visitor);
CREATE INDEX ix_photos_expires_s ON photos (expires_s);
CREATE INDEX ix_photos_set_id ON photos (set_id);
CREATE INDEX ix_videos_visitor ON videos (visitor);
CREATE INDEX ix_videos_state ON videos (state);
CREATE INDEX ix_videos_expires_s ON videos (expires_s);
COMMIT;
