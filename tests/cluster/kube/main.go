// Command kube is one component of Kubernetes, or its etcd, chosen by the first argument:
//
//	kube etcd|apiserver|manager|scheduler|kubelet|proxy [flags]
//
// The flags are the component's own (etcd's are below). One program instead of six, since they share most of their code:
// it is built from the Go module proxy's sources where no release binaries or images can be reached.
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var components = map[string]func() *cobra.Command{
	"etcd":      newEtcdCommand,
	"apiserver": func() *cobra.Command { return apiserver.NewAPIServerCommand() },
	"manager":   func() *cobra.Command { return manager.NewControllerManagerCommand() },
	"scheduler": func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubelet":   func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"proxy":     func() *cobra.Command { return proxy.NewProxyCommand() },
}

func main() {
	if len(os.Args) < 2 || components[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: kube etcd|apiserver|manager|scheduler|kubelet|proxy [flags]")
		os.Exit(2)
	}
	component := components[os.Args[1]]()
	os.Args = os.Args[1:]
	os.Exit(cli.Run(component))
}

// newEtcdCommand runs a single member. It does not fsync: its data outlives the process, which is all that tests ask,
// but not the machine.
func newEtcdCommand() *cobra.Command {
	var dir, client, peer string
	command := &cobra.Command{Use: "etcd", SilenceUsage: true, RunE: func(*cobra.Command, []string) error {
		config, err := etcdConfig(dir, client, peer)
		if err != nil {
			return err
		}
		member, err := embed.StartEtcd(config)
		if err != nil {
			return err
		}
		defer member.Close()
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		select {
		case <-stop:
			return nil
		case err := <-member.Err():
			return err
		}
	}}
	command.Flags().StringVar(&dir, "data-dir", "etcd", "data directory")
	command.Flags().StringVar(&client, "client", "http://127.0.0.1:2379", "client URL")
	command.Flags().StringVar(&peer, "peer", "http://127.0.0.1:2380", "peer URL")
	return command
}

func etcdConfig(dir, client, peer string) (*embed.Config, error) {
	clientURL, err := url.Parse(client)
	if err != nil {
		return nil, err
	}
	peerURL, err := url.Parse(peer)
	if err != nil {
		return nil, err
	}
	config := embed.NewConfig()
	config.Dir, config.LogLevel, config.UnsafeNoFsync = dir, "error", true
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*clientURL}, []url.URL{*clientURL}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peerURL}, []url.URL{*peerURL}
	config.InitialCluster = config.InitialClusterFromName("default")
	return config, nil
}
