// Command collector is an OpenTelemetry Collector that writes what it received where our tests can read it.
//
// It is the Collector's own core and its own OTLP receiver, so that it judges our bytes as a user's Collector does. The
// exporter is ours: a line of OTLP/JSON for each batch is in the file before the sender has its answer, so a sender that was
// told "taken" finds its spans, even if the process is killed right after.
//
// Usage: collector CONFIG, where CONFIG names a configuration as `--config` of a Collector does: `yaml:…` or `file:…`. It ends
// on SIGTERM, and when its standard input ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "collector:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 1 {
		return errors.New("usage: collector yaml:CONFIG | file:PATH")
	}
	collector, err := otelcol.NewCollector(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Description: "Collector of spanring's tests", Version: "0"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{ResolverSettings: confmap.ResolverSettings{
			URIs:              arguments,
			ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory(), fileprovider.NewFactory()},
		}},
	})
	if err != nil {
		return err
	}
	go endWithTest()
	return collector.Run(context.Background())
}

// endWithTest ends the process with the test that started it, even if that was killed: it holds the other end of our
// standard input.
func endWithTest() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(1)
}

func factories() (otelcol.Factories, error) {
	receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	exporters, err := otelcol.MakeFactoryMap[exporter.Factory](linesFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	return otelcol.Factories{
		Receivers: receivers,
		Exporters: exporters,
		Telemetry: otelconftelemetry.NewFactory(),
	}, nil
}

// linesConfig is the configuration of the exporter: `exporters: {lines: {path: …, hold: …}}`.
type linesConfig struct {
	Path string `mapstructure:"path"`
	// Hold names a file: while it exists, what is written is not answered. A kill then costs answers for certain.
	Hold string `mapstructure:"hold"`
}

// Validate refuses an exporter without a file.
func (config *linesConfig) Validate() error {
	if config.Path == "" {
		return errors.New("path: name the file that the lines go to")
	}
	return nil
}

// lines appends a line of OTLP/JSON for each batch to a file.
type lines struct {
	path      string
	hold      string
	mutex     sync.Mutex
	file      *os.File
	marshaler ptrace.JSONMarshaler
}

func linesFactory() exporter.Factory {
	return exporter.NewFactory(
		component.MustNewType("lines"),
		func() component.Config { return &linesConfig{} },
		exporter.WithTraces(newLines, component.StabilityLevelDevelopment),
	)
}

func newLines(ctx context.Context, settings exporter.Settings, config component.Config) (exporter.Traces, error) {
	lines := &lines{path: config.(*linesConfig).Path, hold: config.(*linesConfig).Hold}
	// Without options there is no queue and no retry: what is consumed is written, or the sender hears of it.
	return exporterhelper.NewTraces(ctx, settings, config, lines.consume,
		exporterhelper.WithStart(lines.start), exporterhelper.WithShutdown(lines.shutdown))
}

func (lines *lines) start(context.Context, component.Host) error {
	file, err := os.OpenFile(lines.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	lines.file = file
	return err
}

// consume returns, and so lets the sender be answered, when the line is in the file.
func (lines *lines) consume(_ context.Context, traces ptrace.Traces) error {
	line, err := lines.marshaler.MarshalTraces(traces)
	if err != nil {
		return err
	}
	if err := lines.write(append(line, '\n')); err != nil {
		return err
	}
	for lines.isHeld() {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// write writes with one system call. A kill in the middle of it may tear the line, whose sender then has no answer. No sync
// to the disk: what the kernel has survives the process, and the tests kill no machines.
func (lines *lines) write(line []byte) error {
	lines.mutex.Lock()
	defer lines.mutex.Unlock()
	_, err := lines.file.Write(line)
	return err
}

func (lines *lines) isHeld() bool {
	if lines.hold == "" {
		return false
	}
	_, err := os.Stat(lines.hold)
	return err == nil
}

func (lines *lines) shutdown(context.Context) error {
	if lines.file == nil {
		return nil
	}
	return lines.file.Close()
}
