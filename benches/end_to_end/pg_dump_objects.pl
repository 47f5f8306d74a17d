#!/usr/bin/perl
# Prints the statements that make the objects of pg_dump's own tests (src/bin/pg_dump/t/002_pg_dump.pl on standard input), one
# file for each database in the directory that is named. Those of one database only, in the order in which the tests run them.
use strict;
use warnings;

my ($directory, $name) = @ARGV;
my $text = do { local $/; <STDIN> };
my ($tests) = $text =~ /^my %tests = \((.*?)\);\s*^####+\s*^# Create a PG/ms or die "no tests found\n";

# What the table of tests refers to; what is compiled in decides about files of a dump, not about objects.
our (%full_runs, %dump_test_schema_runs, %pgdump_runs);
our ($tempdir, $tempdir_short, $port, $supports_lz4, $supports_gzip, $supports_zstd, $supports_icu) = ('', '', 0, 1, 1, 1, 1);
my %tests = do { no strict; no warnings; eval "($tests)" };
die $@ if $@;

my $order = sub { $tests{ $_[0] }{create_order} || 1_000_000 };
my %statements;
for my $test (sort { $order->($a) <=> $order->($b) || $a cmp $b } keys %tests) {
    my $sql = $tests{$test}{create_sql} or next;
    my $database = $tests{$test}{database} // 'postgres';
    $database =~ s/^postgres$/pg_dump_objects/;
    $statements{$database} .= "$sql;\n";
}
for my $database (keys %statements) {
    open my $file, '>', "$directory/$database$name.sql" or die "$directory: $!\n";
    print $file $statements{$database};
    close $file or die "$directory: $!\n";
}
