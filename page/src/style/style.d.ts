// What a bundler makes of an import of a stylesheet.
declare module "*.css";
